"""Batches in a planned order: the same on any number of hosts and workers, gone on with at any row.

    counts of every record -> plan: row -> samples -> rows read by number -> this host's rows of a batch

What a row holds was decided before anything is read (`batches.planner`), so mixture, choice, filter and packing are all
behind a number: row r is a record like any other. Host h of H reads the h-th part of the rows of each batch; put
together in the order of hosts they are the same batch for every H. The position is the number of the next row.

A record whose pixels turn out to be damaged leaves its place in the row empty and is put aside; nothing replaces it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import grain
import numpy as np

from omni_jax.batches.counts import COUNT, Counted, count, counts_path
from omni_jax.batches.mixture import Cache, Quarantine, quarantines
from omni_jax.batches.packing import Packed, Reading, lay
from omni_jax.batches.pictures import Pictures
from omni_jax.batches.plan import Plan
from omni_jax.batches.planner import Planner, Stock
from omni_jax.batches.sequences import SequenceBatches, without_branches
from omni_jax.batches.shares import Phase, phases
from omni_jax.batches.sources import Sample, SampleWriter, Source
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example

_ENDLESS = 2**40  # rows
_AHEAD = 2  # rows that a worker has ready


class Host(NamedTuple):
  """One of the readers that share the rows of a batch."""

  index: int
  count: int


class PlannedPacked(Packed, Protocol):
  """What a config of packed batches has that are read in a planned order."""

  @property
  def plans(self) -> Path:
    """Folder for counts and plans."""
    ...

  @property
  def workers(self) -> int:
    """Processes of each host."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
  """A config of packed batches read in a planned order: `class PlannedX(Planned, X)`.

  Attributes:
    plans: folder for counts and plans.
    workers: processes of each host that read rows; 0: its own thread does.
  """

  plans: Path
  workers: int = 0

  def __post_init__(self):
    super().__post_init__()  # pyright: ignore[reportAttributeAccessIssue]: of the packed batches
    _check(self.packed)

  def open(self) -> grain.IterDataset:
    """Returns endless batches.

    Raises:
      UserError: a set or the vocabulary is missing or another one, or too many records cannot be used.
    """
    return self.open_part(0, 1)

  def open_part(self, part: int, parts: int) -> grain.IterDataset:
    """Returns one part of the rows of endless batches: put together in order, the parts of any number are the same.

    Raises:
      UserError: as `open`, or the rows of a batch do not divide into so many parts.
    """
    config = self.packed
    if config.rows % parts:
      raise UserError(
        f"{config.rows} rows in {parts} parts",
        where=type(self).__name__,
        rule="every process reads the same number of rows",
        remedy="change rows, or the number of processes",
      )
    return _Batches(PlannedRows(config, Host(part, parts)), rows_of_all=config.rows, workers=self.workers)

  def prepared(self) -> "Prepared":
    """Returns the plan and what reads it; counts the sources first, where that was not done.

    Raises:
      UserError: as `open`.
    """
    return _prepared(self.packed)

  @property
  def packed(self) -> PlannedPacked:
    """This config as one of packed batches."""
    return cast(PlannedPacked, self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedBatches(Planned, SequenceBatches):
  """What a stage of the language model reads, in a planned order."""


def _prepared(config: PlannedPacked) -> "Prepared":
  reading = config.read_as()
  parts = [_counted(config, source, reading) for source in config.sources]
  identity = [
    [config.seed, config.rows, config.length, reading.pieces],
    [[part.names, *_drawing(source)] for part, source in zip(parts, config.sources, strict=True)],
  ]
  planner = Planner(
    [part.stock for part in parts],
    shares=_shares(config.sources),
    rows=config.rows,
    length=config.length,
    pieces=reading.pieces,
    seed=config.seed,
  )
  plan = Plan(planner, folder=config.plans, identity=identity)
  if not plan.folder.exists():  # the first time, what fits no row is told
    for part in parts:
      for record, reason in part.misfits():
        part.aside.add(part.records[record].id, reason)
  return Prepared(plan, tuple(parts), reading, reading.images.read(()))


def _check(config: PlannedPacked) -> None:
  _shares(config.sources)
  if config.workers < 0:
    raise UserError(
      f"{config.workers} workers",
      where=type(config).__name__,
      rule="0 or more",
      remedy="correct the config or the flag",
    )


class Part(NamedTuple):
  """One source, counted."""

  records: ExampleSource
  views: tuple[Counted, ...]
  names: tuple[str, ...]  # of their files
  stock: Stock
  writers: tuple[SampleWriter, ...]  # of each view
  aside: Quarantine
  room: tuple[int, int]  # tokens and pieces of a row

  def shown(self, view: int, record: int) -> tuple[Example | None, list[bytes]]:
    """Returns a record and the files of it that stand in its sample; of text and units alone it is not read."""
    files = int(self.views[view].counts[record]["images"])
    if not files:
      return None, []  # text and units are in the counted grid
    example = self.records[record]
    return example, self.writers[view].shown(example)[:files]

  def misfits(self) -> Iterable[tuple[int, str]]:
    """Yields the records of which a sample fits no row, with the reason."""
    for view in self.views:
      for name, sizes, room in zip(("tokens", "pieces"), _sizes(view.counts), self.room, strict=True):
        for record in np.flatnonzero(sizes > room).tolist():
          yield record, f"{sizes[record]} {name}, a row has {room}"


class Prepared(NamedTuple):
  """A plan, and the sources it is about."""

  plan: Plan
  parts: tuple[Part, ...]
  reading: Reading
  nothing: Pictures  # what stands in a sample of text and units alone

  def pictures(self, shown: Sequence[bytes]) -> Pictures:
    """Returns files of one record, read.

    Raises:
      UserError: one is damaged.
    """
    return self.reading.images.read(shown) if shown else self.nothing


class PlannedRows:
  """The rows of a host by number, in the order in which it reads them; a source for grain."""

  def __init__(self, config: PlannedPacked, host: Host):
    """Prepares the plan; a copy in another process prepares it again, from the files."""
    self._config, self.host = config, host
    self._kept = Cache(getattr(config, "cache_bytes", 0))  # not every kind of samples is worth keeping
    self._prepared: Prepared | None = None
    self._like: Sample | None = None
    self.plan = self._ready().plan

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    own = self._config.rows // self.host.count
    step, row = divmod(int(index), own)
    return self.row(step * self._config.rows + self.host.index * own + row)

  def __getstate__(self) -> dict[str, Any]:
    return {"_config": self._config, "host": self.host, "_kept": self._kept}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state, _prepared=None, _like=None)

  def __repr__(self) -> str:
    return f"PlannedRows(host {self.host.index} of {self.host.count})"

  def row(self, number: int) -> dict[str, np.ndarray]:
    """Returns a row of the plan as arrays, as `packing.pack` makes them."""
    samples = self.samples(number)
    reading = self._ready().reading
    if self._like is None:
      self._like = samples[0] if samples else self._first_sample()
    row = lay(samples, like=self._like, length=self._config.length, images=reading.images, pieces=reading.pieces)
    return row if reading.branched else without_branches(row)

  def samples(self, number: int) -> list[Sample]:
    """Returns the samples of a row, without those that are damaged."""
    made = (self._sample(entry) for entry in self._ready().plan.row(number))
    return [sample for sample in made if sample is not None]

  def _ready(self) -> Prepared:
    if self._prepared is None:
      self._prepared = _prepared(self._config)
    return self._prepared

  def _sample(self, entry: np.void) -> Sample | None:
    key = tuple(int(entry[name]) for name in ("source", "view", "record", "heard"))
    sample = self._kept.get(key)
    if sample is not None:
      return sample
    source, view, record, heard = key
    prepared = self._ready()
    part = prepared.parts[source]
    example, shown = part.shown(view, record)
    try:
      sample = part.writers[view].sample(part.views[view].grid(record, heard=bool(heard)), prepared.pictures(shown))
    except UserError as error:
      assert example is not None, "only images and recordings can be damaged"
      part.aside.add(example.id, error.what)
      return None
    pieces = next(map(len, sample.images.values()), 0)
    if pieces != entry["pieces"]:
      raise UserError(
        f"record {record} has an image of {pieces} pieces, {entry['pieces']} were counted",
        where=part.records.folder,
        rule="records are those that were counted",
        remedy=f"delete {self._config.plans}: they are counted and planned again",
      )
    self._kept.put(key, sample, shown=shown)
    return sample

  def _first_sample(self) -> Sample:
    """Returns the first sample of the plan that is whole, for its kinds of arrays."""
    return next(samples[0] for row in range(_ENDLESS) if (samples := self.samples(row)))


class _Batches(grain.IterDataset):
  """The batches of one host."""

  def __init__(self, rows: PlannedRows, *, rows_of_all: int, workers: int):
    super().__init__()
    self._args = rows, rows_of_all, workers

  def __iter__(self) -> grain.DatasetIterator:
    return _BatchIterator(*self._args)


class _BatchIterator(grain.DatasetIterator):
  """Batches from a row on, whose number is the whole state."""

  def __init__(self, rows: PlannedRows, rows_of_all: int, workers: int):
    super().__init__()
    self._rows, self._rows_of_all, self._workers = rows, rows_of_all, workers
    self._next, self._reading = 0, None

  def __next__(self) -> dict[str, np.ndarray]:
    if self._reading is None:
      self._reading = self._read()
    batch = next(self._reading)
    self._next += self._rows_of_all
    return batch

  def get_state(self) -> dict[str, Any]:
    return {"row": self._next, "plan": self._rows.plan.fingerprint}

  def set_state(self, state: dict[str, Any]) -> None:
    if state["plan"] != self._rows.plan.fingerprint:
      raise UserError(
        f"the position is of the plan {state['plan']}",
        where=self._rows.plan.folder,
        rule="training goes on with the records, the order and the packing it began with",
        remedy="restore the record sets and the config, or train the stage again with --overwrite",
      )
    self.close()
    self._next = int(state["row"])

  def close(self) -> None:
    if self._reading is not None:
      self._reading.close()
      self._reading = None

  def _read(self) -> grain.DatasetIterator:
    hosts = self._rows.host.count
    ahead = grain.MapDataset.source(self._rows)[self._next // hosts :]
    read = ahead.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    if self._workers:
      from absl import flags

      # grain 0.2.18 reads a flag in each worker, which fails in a program that never parsed flags (google/grain 1361).
      flags.FLAGS.mark_as_parsed()
      read = read.mp_prefetch(grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=_AHEAD))
    return iter(read.batch(self._rows_of_all // hosts, drop_remainder=True))


def _counted(config: PlannedPacked, source: Source, reading: Reading) -> Part:
  """Returns a source with the counts of its samples and those that can be used."""
  records = ExampleSource(source.folder, source.split)
  aside = quarantines(config.quarantine, max_share=config.max_bad_share)(source, len(records))
  styles = tuple(style for style, share in ((False, source.style_dropout), (True, 1 - source.style_dropout)) if share)
  key = [*reading.key, source.voices, styles]
  writers = tuple(reading.writer(dataclasses.replace(source, view=view, other_views=())) for view in source.views)
  paths = [counts_path(config.plans / "counts", records, view=view, key=key) for view in source.views]
  views = tuple(
    count(records, writer, styles=styles, path=path, aside=aside.add, voices=source.voices, progress=_tracked(path))
    for writer, path in zip(writers, paths, strict=True)
  )
  room = config.length, reading.pieces
  stock = _stock(
    [view.counts for view in views],
    room=room,
    source=source,
    max_share=config.max_bad_share,
    quarantine=config.quarantine,
  )
  return Part(records, views, tuple(path.stem for path in paths), stock, writers, aside, room)


def _stock(
  counts: Sequence[np.ndarray], *, room: tuple[int, int], source: Source, max_share: float, quarantine: Path
) -> Stock:
  fits = [np.logical_and(*(sizes <= most for sizes, most in zip(_sizes(own), room, strict=True))) for own in counts]
  tokens = np.stack([np.where(fit[:, None], own["tokens"], 0) for own, fit in zip(counts, fits, strict=True)], axis=1)
  tokens = np.maximum(tokens, 0)
  usable = np.flatnonzero(tokens.any(axis=(1, 2))).astype(np.int32)
  bad = int(np.logical_or.reduce([own["tokens"].min(axis=1) < 0 for own in counts]).sum())
  if bad > max_share * len(tokens) or not len(usable):
    raise UserError(
      f"{bad} of {len(tokens)} records cannot be used" if len(usable) else "no record can be used",
      where=f"{source.folder}, split {source.split}, view {', '.join(source.views)}",
      rule=f"a source has records, of which at most {max_share:.1%} are put aside",
      remedy=f"repair the set, or choose another view or other voices; reasons are in {quarantine}",
    )
  pieces = np.stack([own["pieces"] for own in counts], axis=1)
  return Stock(tokens=tokens, pieces=pieces, records=usable, style_dropout=source.style_dropout)


def _sizes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns tokens and pieces of the longest sample of each record."""
  assert counts.dtype == COUNT, "counts of samples"
  return counts["tokens"].max(axis=1), counts["pieces"]


def _drawing(source: Source) -> list[Any]:
  """Returns what of a source decides which samples are drawn."""
  return [source.weight, source.changes, source.style_dropout]


def _shares(sources: Sequence[Source]) -> tuple[Phase, ...]:
  return phases([source.weight for source in sources], [source.changes for source in sources])


def _tracked(path: Path) -> Callable[[range], Iterable[int]]:
  """Returns what shows a bar while a large set is counted."""

  def track(blocks: range) -> Iterable[int]:
    from rich.progress import track as bar

    return bar(blocks, description=f"counting into {path.name}") if len(blocks) > 2 else blocks

  return track
