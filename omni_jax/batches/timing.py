"""What reading costs: rates of whole batches, and where the time of one goes."""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from omni_jax.batches.packing import Packed, lay
from omni_jax.batches.planned import Planned

Result = TypeVar("Result")

STAGES = ("plan", "read files", "cut files", "read tokens", "mark targets", "lay rows")


class Rates(NamedTuple):
  """How fast batches come.

  Attributes:
    first: seconds to the first batch, with opening.
    batch: seconds for each following one.
    examples: samples in a second.
    tokens: real tokens in a second.
    padding: share of a batch's places for tokens that nothing fills.
    file_padding: the same of its places for pieces of images, or for recordings; none: 0.
  """

  first: float
  batch: float
  examples: float
  tokens: float
  padding: float
  file_padding: float


def rates(data: Packed, *, batches: int) -> Rates:
  """Returns how fast `data.open()` gives batches, the first left out of all but `first`.

  Args:
    data: a config of packed batches.
    batches: how many are read after the first.
  """
  start = time.perf_counter()
  iterator = iter(data.open())
  next(iterator)
  first = time.perf_counter() - start
  reading = data.read_as()
  examples = tokens = places = pieces = rooms = 0
  start = time.perf_counter()
  for _ in range(batches):
    batch = next(iterator)
    segments = batch["segment_ids"]
    examples += int(segments.max(axis=1, initial=0).sum())
    tokens, places = tokens + int(np.count_nonzero(segments)), places + segments.size
    filled = reading.images.filled(batch) if reading.pieces else np.zeros(0)
    pieces, rooms = pieces + int(np.count_nonzero(filled)), rooms + filled.size
  spent = time.perf_counter() - start
  file_padding = 1 - pieces / rooms if rooms else 0.0
  return Rates(first, spent / batches, examples / spent, tokens / spent, 1 - tokens / places, file_padding)


def stages(data: Planned, *, rows: int) -> dict[str, float]:
  """Returns the seconds that each stage of reading takes for a batch, by name.

  Args:
    data: planned batches.
    rows: of the plan that are read for it, one after another.
  """
  config, prepared = data.packed, data.prepared()
  spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
  timed = functools.partial(_timed, spent)
  like, laid = None, []
  for number in range(rows):
    samples = []
    for entry in timed("plan", prepared.plan.row, number):
      part, view, record = prepared.parts[entry["source"]], int(entry["view"]), int(entry["record"])
      _, shown = timed("read files", part.shown, view, record)
      pictures = timed("cut files", prepared.pictures, shown)
      grid = timed("read tokens", part.views[view].grid, record, heard=bool(entry["heard"]))
      samples.append(timed("mark targets", part.writers[view].sample, grid, pictures))
    like = samples[0] if like is None else like
    sizes = {"length": config.length, "images": prepared.reading.images, "pieces": prepared.reading.pieces}
    laid.append(timed("lay rows", lay, samples, like=like, **sizes))
  timed("lay rows", lambda: {name: np.stack([row[name] for row in laid]) for name in laid[0]})
  return {name: seconds * config.rows / rows for name, seconds in spent.items()}


def _timed(spent: dict[str, float], name: str, work: Callable[..., Result], *args: Any, **options: Any) -> Result:
  start = time.perf_counter()
  result = work(*args, **options)
  spent[name] += time.perf_counter() - start
  return result


def step_seconds(lines: list[dict[str, Any]]) -> float | None:
  """Returns the median seconds of a step from the lines of a stage's metrics, None if there are too few.

  Args:
    lines: with `step` and `seconds`.
  """
  pairs = itertools.pairwise(lines[1:])  # the first step compiles
  each = [(after["seconds"] - before["seconds"]) / (after["step"] - before["step"]) for before, after in pairs]
  return float(np.median(each)) if each else None
