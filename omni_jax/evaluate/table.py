"""The results as a Markdown table: readable in a terminal, and what a README shows."""

from collections.abc import Mapping
from typing import Any

_SHARES = ("WER", "CER", "PER", "accuracy", "failures", "distance")


def results_table(results: Mapping[str, Any]) -> str:
  """Returns one line for each figure: value, 95 % interval, samples, baselines, goal."""
  lines = ["| figure | result | 95 % interval | n | beside | goal |", "| --- | --- | --- | --- | --- | --- |"]
  for row in results["figures"]:
    interval = f"{_bare(row['low'], row)} to {_bare(row['high'], row)}" if row["value"] is not None else ""
    beside = ", ".join(f"{name} {shown(base['value'], row['measure'])}" for name, base in row["baselines"].items())
    name = f"{row['figure']} ({row['measure']})" if row["measure"] in ("WER", "CER", "PER") else row["figure"]
    value = shown(row["value"], row["measure"])
    lines.append(f"| {name} | {value} | {interval} | {row.get('n', '')} | {beside} | {goal_text(row)} |")
  return "\n".join(lines)


def shown(value: float | None, measure: str) -> str:
  """Returns a figure with its unit: `4.1 %`, `+3.0 points`, `0.21 s`, `0.8 x`; `not measurable` for None."""
  if value is None:
    return "not measurable"
  if measure in _SHARES:
    return f"{100 * value:.1f} %"
  if measure == "points":
    return f"{100 * value:+.1f} points"
  return f"{value:.2f} s" if measure == "seconds" else f"{value:.2f} x"


def goal_text(row: Mapping[str, Any]) -> str:
  """Returns the goal of a figure and whether it is reached; empty without a goal."""
  if "goal" not in row:
    return ""
  goal = row["goal"]
  verdict = {True: "reached", False: "missed", None: "not measurable"}[row["reached"]]
  return f"{goal['relation']} {shown(goal['value'], row['measure']).lstrip('+')}: {verdict}"


def _bare(value: float, row: Mapping[str, Any]) -> str:
  text = shown(value, row["measure"])
  return text.rpartition(" ")[0]
