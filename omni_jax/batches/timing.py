"""What reading costs: rates of whole batches, and where the time of one goes."""

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from omni_jax.batches.packing import lay
from omni_jax.batches.planned import PlannedBatches

Result = TypeVar("Result")

STAGES = ("plan", "read images", "cut images", "read tokens", "mark targets", "lay rows")


class Rates(NamedTuple):
  """How fast batches come.

  Attributes:
    first: seconds to the first batch, with opening.
    batch: seconds for each following one.
    examples: samples in a second.
    tokens: real tokens in a second.
    padding: share of a batch's places for tokens that nothing fills.
    image_padding: the same of its places for pieces of images; none: 0.
  """

  first: float
  batch: float
  examples: float
  tokens: float
  padding: float
  image_padding: float


def rates(data: Any, *, batches: int) -> Rates:
  """Returns how fast `data.open()` gives batches, the first left out of all but `first`.

  Args:
    data: a config of packed batches.
    batches: how many are read after the first.
  """
  start = time.perf_counter()
  iterator = iter(data.open())
  next(iterator)
  first = time.perf_counter() - start
  examples = tokens = places = pieces = rooms = 0
  start = time.perf_counter()
  for _ in range(batches):
    batch = next(iterator)
    segments = batch["segment_ids"]
    examples += int(segments.max(axis=1, initial=0).sum())
    tokens, places = tokens + int(np.count_nonzero(segments)), places + segments.size
    images = batch.get("patch_segment_ids", batch.get("tile_segment_ids", np.zeros(0)))
    pieces, rooms = pieces + int(np.count_nonzero(images)), rooms + images.size
  spent = time.perf_counter() - start
  image_padding = 1 - pieces / rooms if rooms else 0.0
  return Rates(first, spent / batches, examples / spent, tokens / spent, 1 - tokens / places, image_padding)


def stages(data: PlannedBatches, *, rows: int) -> dict[str, float]:
  """Returns the seconds that each stage of reading takes for a batch, by name.

  Args:
    data: planned batches.
    rows: of the plan that are read for it, one after another.
  """
  prepared = data.prepared()
  spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
  laid = []
  for number in range(rows):
    entries = _timed(spent, "plan", lambda number=number: prepared.plan.row(number))
    samples = []
    for entry in entries:
      part = prepared.parts[entry["source"]]
      view, record, heard = part.views[entry["view"]], int(entry["record"]), bool(entry["heard"])
      images = int(view.counts[record]["images"])
      example = _timed(spent, "read images", lambda part=part, record=record: part.records[record]) if images else None
      shown = [example.image][:images] if example else []
      pictures = _timed(spent, "cut images", lambda shown=shown: data.images.read(shown))
      grid = _timed(spent, "read tokens", lambda view=view, record=record, heard=heard: view.grid(record, heard=heard))
      writer = part.writers[entry["view"]]
      sample = _timed(spent, "mark targets", lambda writer=writer, grid=grid: writer.sample(grid, []))
      samples.append(sample._replace(images=pictures.arrays))
    row = _timed(
      spent,
      "lay rows",
      lambda samples=samples: lay(
        samples, like=samples[0], length=data.length, images=data.images, pieces=data.patches
      ),
    )
    laid.append(row)
  _timed(spent, "lay rows", lambda: {name: np.stack([row[name] for row in laid]) for name in laid[0]})
  return {name: seconds * data.rows / rows for name, seconds in spent.items()}


def _timed(spent: dict[str, float], name: str, work: Callable[[], Result]) -> Result:
  start = time.perf_counter()
  result = work()
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
