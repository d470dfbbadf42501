"""Several sources as one endless stream of samples, in shares that hold at every moment, the same after a restart.

A record that cannot be used is put aside with its reason, counted once, and stops the run when they are more than a
stated share of their source: nothing is cut or replaced in silence.
"""

import dataclasses
import json
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import grain
import numpy as np

from omni_jax.batches.packing import fields, fits
from omni_jax.batches.sources import Sample, SampleWriter, Source
from omni_jax.core.errors import UserError
from omni_jax.prepare.quarantine import Rejected, require_share
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example


class Quarantine:
  """The records of one source that cannot be used, in memory and as lines of a file; each is counted once."""

  def __init__(self, source: Source, *, size: int, max_share: float, path: Path):
    """Starts empty.

    Args:
      source: whose records.
      size: number of its records.
      max_share: of them that may be put aside.
      path: JSON lines are added here.
    """
    self._source, self._size, self._max_share, self._path = source, size, max_share, path
    self._rejected: dict[str, Rejected] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._rejected)

  def __getstate__(self) -> dict:
    return {name: value for name, value in self.__dict__.items() if name != "_lock"}

  def __setstate__(self, state: dict) -> None:
    self.__dict__.update(state, _lock=threading.Lock())

  def add(self, example_id: str, reason: str) -> None:
    """Puts one record aside.

    Raises:
      UserError: they are too many now.
    """
    with self._lock:
      if example_id in self._rejected:
        return
      one = self._rejected[example_id] = Rejected(example_id, reason)
      self._path.parent.mkdir(parents=True, exist_ok=True)
      line = {"set": str(self._source.folder), "split": self._source.split, "view": self._source.view}
      with self._path.open("a") as file:
        file.write(json.dumps({**line, **dataclasses.asdict(one)}) + "\n")
      require_share(
        tuple(self._rejected.values()),
        size=self._size,
        max_share=self._max_share,
        where=f"{self._source.folder}, split {self._source.split}, view {self._source.view}",
        path=self._path,
        remedy="raise the row length or the patches of the config",
      )


def quarantines(path: Path, *, max_share: float) -> Callable[[Source, int], Quarantine]:
  """Returns what makes the quarantine of a source with so many records; all write to one file."""
  return lambda source, size: Quarantine(source, size=size, max_share=max_share, path=path)


def mix(
  sources: Sequence[Source],
  *,
  writer: Callable[[Source], SampleWriter],
  quarantine: Callable[[Source, int], Quarantine],
  lengths: Mapping[str, int],
  cache_bytes: int,
  seed: int,
) -> grain.IterDataset:
  """Returns an endless stream of samples that fit a row.

  Args:
    sources: with their weights.
    writer: makes the writer of a source.
    quarantine: makes the quarantine of a source with so many records.
    lengths: of a row, by the name of an array.
    cache_bytes: of samples kept in memory, since writing one takes longer than reading it again.
    seed: of the shuffling and of the dropout of styles.

  Raises:
    UserError: a source needs a planned order, or has no record in one of its voices.
  """
  for source in sources:
    if source.changes or source.other_views:
      raise UserError(
        f"source {source.folder} with changes or other_views",
        where="mixture",
        rule="weights that change and views drawn by chance need a planned order",
        remedy="use the planned kind of these batches, or leave them out",
      )
  streams, kept = [], Cache(cache_bytes)
  for place, source in enumerate(sources):
    records = chosen_records(source)
    sampler = _Sampler(source, writer(source), quarantine(source, len(records)), lengths=lengths, kept=kept)
    order = grain.MapDataset.source(records).seed(seed + place).shuffle().repeat()
    streams.append(order.random_map(sampler))
  mixed = grain.MapDataset.mix(streams, [source.weight for source in sources])
  # One reading thread: the machine's other core computes.
  return mixed.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=64))


def chosen_records(source: Source) -> Sequence[int]:
  """Returns the numbers of the records of `source` that are in one of its voices.

  Raises:
    UserError: there is none.
  """
  records = ExampleSource(source.folder, source.split)
  if not source.voices:
    return range(len(records))
  chosen = [index for index, example in enumerate(records) if example.turns[-1].voice in source.voices]
  if not chosen:
    raise UserError(
      f"no record in the voices {', '.join(source.voices)}",
      where=f"{source.folder}, split {source.split}",
      rule="a source has records",
      remedy="name voices of this set, or make the corpus with one of them",
    )
  return chosen


class Cache:
  """Samples by key, as many as fit; a file that several samples show is kept once. A copy starts empty."""

  def __init__(self, limit_bytes: int):
    """Starts empty."""
    self._limit, self._used = limit_bytes, 0
    self._samples: dict[Hashable, Sample] = {}
    self._shown: dict[tuple[bytes, ...], Sample] = {}

  def __reduce__(self):
    return Cache, (self._limit,)

  def get(self, key: Hashable) -> Sample | None:
    """Returns the sample kept under `key`."""
    return self._samples.get(key)

  def put(self, key: Hashable, sample: Sample, *, shown: Sequence[bytes]) -> None:
    """Keeps a sample in which these files stand, if there is room."""
    files = tuple(shown)
    seen = self._shown.get(files) if files else None
    if seen is not None:
      sample = sample._replace(images=seen.images)
    own = fields(sample if seen is None else sample._replace(images={}))
    size = sum(part.nbytes for part in own.values())
    size += sum(map(len, files)) if seen is None else 0  # kept as the key, and by images that are not yet decoded
    if self._used + size <= self._limit:
      self._used += size
      self._samples[key] = sample
      if files:
        self._shown[files] = sample


class _Sampler:
  """Index and random numbers -> sample, or None for a record that is put aside (grain leaves it out)."""

  def __init__(
    self, source: Source, writer: SampleWriter, quarantine: Quarantine, *, lengths: Mapping[str, int], kept: Cache
  ):
    self._source, self._records = source, ExampleSource(source.folder, source.split)
    self._writer, self._quarantine = writer, quarantine
    self._lengths, self._kept = lengths, kept

  def __call__(self, index: int, generator: np.random.Generator) -> Sample | None:
    hear_style = bool(generator.random() >= self._source.style_dropout)
    key = (self._source, int(index), hear_style)
    sample = self._kept.get(key)
    if sample is None:
      example = self._records[int(index)]
      sample = self._write(example, hear_style=hear_style)
      if sample is not None:
        self._kept.put(key, sample, shown=self._writer.shown(example))
    return sample

  def _write(self, example: Example, *, hear_style: bool) -> Sample | None:
    try:
      sample = self._writer(example, hear_style=hear_style)
    except UserError as error:
      self._quarantine.add(example.id, error.what)
      return None
    reason = fits(sample, self._lengths)
    if reason:
      self._quarantine.add(example.id, reason)
      return None
    return sample
