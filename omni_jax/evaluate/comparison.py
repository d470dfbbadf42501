"""All systems that were evaluated in one working folder, side by side: the same figures on the same samples.

Times alone are of other questions where a system sees: of those about images, which come with a longer prompt.

Every figure is one that the systems' own results hold; nothing is measured here. A system that cannot do something, or
was not asked, has no entry. Beside the systems stands a cascade, where it was evaluated: recognition, a written answer
and text to speech, one after the other (`generate.cascade`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omni_jax.evaluate.figures import read_json
from omni_jax.evaluate.systems import SYSTEMS
from omni_jax.evaluate.table import shown

_SEEN, _UNSEEN = "held-out sentences, seen voices", "held-out sentences, held-out voice"
# What is compared -> the task and the figure that say it; a third name is a baseline of that figure.
ROWS: Mapping[str, tuple[str, ...]] = {
  "recognition, word errors, seen voices": ("recognition", f"recognition ({_SEEN})"),
  "recognition, word errors, a voice never heard": ("recognition", f"recognition ({_UNSEEN})"),
  "phone errors of the units, seen voices": ("tokenizer", f"phone error rate of the units ({_SEEN})"),
  "spoken question, right words": ("dialogue", "spoken question, answer in the right words, all kinds"),
  "the same, recognised and asked in writing": (
    "dialogue",
    "spoken question, answer in the right words, all kinds",
    "cascade",
  ),
  "the same, asked in writing": (
    "dialogue",
    "spoken question, answer in the right words, all kinds",
    "asked in writing",
  ),
  "answers that break their layout": (
    "dialogue",
    "dialogue: answers that break their layout (counted as wrong everywhere)",
  ),
  "spoken answers, word errors above the recordings'": (
    "synthesis",
    "spoken answers: word error rate above that of the recordings",
  ),
  "spoken answers against the reference, word errors": (
    "synthesis",
    "spoken answers against the reference answer, by pocketsphinx",
  ),
  "resynthesised speech, word errors above the recordings'": (
    "synthesis",
    "resynthesised recordings (units, vocoder): word error rate above that of the recordings",
  ),
  "text to speech, word errors above the recordings'": (
    "synthesis",
    "text to speech: word error rate above that of the recordings",
  ),
  "first sound": ("timings", "time to the first sound"),
  "whole answer, as a share of its sound": (
    "timings",
    "time to the whole answer, as a share of the length of its sound",
  ),
}


class Entry(NamedTuple):
  """A figure of one system: value, 95 % interval (None for a baseline without one), number of samples, measure."""

  value: float
  low: float | None
  high: float | None
  n: int | None
  measure: str


def evaluated_systems(workdir: Path) -> dict[str, dict[str, Any]]:
  """Returns the results of each system that was evaluated in a working folder, in the order of `SYSTEMS`.

  Raises:
    UserError: results are damaged.
  """
  paths = {name: kind.results(workdir) / "results.json" for name, kind in SYSTEMS.items()}
  remedy = "run `omni evaluate` again"
  return {name: read_json(path, remedy=remedy) for name, path in paths.items() if path.is_file()}


def compared(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Entry]]:
  """Returns row -> system -> its figure; rows that no system has are left out."""
  found = {
    row: {system: entry for system, own in results.items() if (entry := _entry(own, *names)) is not None}
    for row, names in ROWS.items()
  }
  return {row: entries for row, entries in found.items() if entries}


def comparison_table(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the comparison in Markdown, one column for each system."""
  titles = [title_of(system, own) for system, own in results.items()]
  lines = ["| " + " | ".join(["figure", *titles]) + " |", "| --- |" + " --- |" * len(titles)]
  for row, entries in compared(results).items():
    cells = [told(entries[system]) if system in entries else "" for system in results]
    lines.append("| " + " | ".join([row, *cells]) + " |")
  return "\n".join(lines)


def title_of(system: str, results: Mapping[str, Any]) -> str:
  """Returns the name of a system; of a cascade with the stage that its steps are taken from."""
  stage = results["settings"].get("stage", "")
  return f"{SYSTEMS[system].title} of {stage}" if system == "cascade" and stage else SYSTEMS[system].title


def told(entry: Entry) -> str:
  """Returns a figure with its interval and its number of samples."""
  value = shown(entry.value, entry.measure)
  if entry.low is None or entry.high is None:
    return value
  bounds = [shown(bound, entry.measure).rpartition(" ")[0] for bound in (entry.low, entry.high)]
  return f"{value} ({bounds[0]} to {bounds[1]}, {entry.n})"


def _entry(results: Mapping[str, Any], task: str, name: str, baseline: str = "") -> Entry | None:
  rows = [row for row in results["figures"] if row["task"] == task and row["figure"] == name]
  if not rows or rows[0]["value"] is None:
    return None
  (row,) = rows
  score = row["baselines"].get(baseline) if baseline else row
  if score is None:
    return None
  return Entry(score["value"], score.get("low"), score.get("high"), score.get("n"), row["measure"])
