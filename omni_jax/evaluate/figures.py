"""What a task hands back: figures with their baselines and goals, one record for each sample, and side tables.

Files below `<workdir>/evaluation`, all written whole or not at all:

    <task>.json    the figures, side tables and seconds of one task, with the fingerprint that made them
    <task>.jsonl   one line for each sample
    audio/         the first sounds of a task, to play in the report
    results.json   every figure of every task
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.evaluate.scores import Score


class Goal(NamedTuple):
  """What a figure should reach: `at most` or `at least` a value."""

  relation: str
  value: float

  def reached(self, value: float) -> bool:
    """Whether `value` passes."""
    return value <= self.value if self.relation == "at most" else value >= self.value


def at_most(value: float) -> Goal:
  """Returns the goal of an error rate."""
  return Goal("at most", value)


def at_least(value: float) -> Goal:
  """Returns the goal of an accuracy."""
  return Goal("at least", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """One row of the results.

  Attributes:
    name: what is measured, in words a reader understands without the code.
    measure: `WER`, `CER`, `PER`, `accuracy`, `distance` (of 1), `points` (difference of two rates), `seconds` or
      `ratio`.
    score: the figure; None means it cannot be measured, and `note` says why.
    baselines: name (`chance`, `majority`, `blind`, `cascade`, ...) -> its figure on the same samples.
    goal: what to reach, if the project set one.
    note: how it was measured, or why not.
    detail: a part of the figure above it, such as one kind of question; the report folds these away.
  """

  name: str
  measure: str
  score: Score | None
  baselines: Mapping[str, Score | float] = dataclasses.field(default_factory=dict)
  goal: Goal | None = None
  note: str = ""
  detail: bool = False

  def to_json(self, task: str) -> dict[str, Any]:
    """Returns the row as results.json holds it."""
    baselines = {
      name: value.to_json() if isinstance(value, Score) else {"value": round(float(value), 4)}
      for name, value in self.baselines.items()
    }
    row: dict[str, Any] = {"task": task, "figure": self.name, "measure": self.measure}
    row |= self.score.to_json() if self.score else {"value": None, "status": "not measurable"}
    row["baselines"] = baselines
    if self.goal:
      row["goal"] = {"relation": self.goal.relation, "value": self.goal.value}
      row["reached"] = self.goal.reached(self.score.value) if self.score else None
    if self.note:
      row["note"] = self.note
    if self.detail:
      row["detail"] = True
    return row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """Everything a task found: its figures, a record for each sample, and tables for the report."""

  figures: tuple[Figure, ...]
  samples: tuple[Mapping[str, Any], ...]
  tables: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_json(path: Path, value: Any) -> None:
  """Writes JSON so that the file is the old one or the new one, never half of it."""
  write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
  """Writes one JSON object a line, whole or not at all."""
  write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_json(path: Path, *, remedy: str) -> Any:
  """Returns the content of a JSON file.

  Raises:
    UserError: it is not there, or cannot be read.
  """
  if not path.is_file():
    raise UserError("no such file", where=path, rule="results come before the report", remedy=remedy)
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise UserError(f"cannot read JSON: {error}", where=path, rule="the file is whole", remedy=remedy) from error
