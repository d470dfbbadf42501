"""The one driver: every reader, builder and extractor is a function of one record, run here over a whole corpus.

    corpus.entries() -> listing/00000.jsonl ...      which entries a shard is made of, written first
    a job = one file of the listing:  read -> steps -> parts/00000 + 00000.json (records, checksum, what was put aside)
    all parts there -> renamed, quarantine and metadata written: the split exists

A part is a function of its listing alone, so processes on one machine and Apache Beam on many (`build/beam.py`) make
the same bytes, in any order; what is finished when everything dies is kept, and the rest is made by running it again.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from omni_jax.build.made import is_made, remember
from omni_jax.build.processes import HERE
from omni_jax.build.progress import bars
from omni_jax.core.config import fingerprint
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.corpora.entries import Corpus, Entry
from omni_jax.prepare.quarantine import Rejected, reason_of, require_share, write_quarantine
from omni_jax.prepare.schema import SCHEMA_VERSION, Example, features
from omni_jax.prepare.writer import Shard, publish, read_splits, serialize, unwritable, write_shard

RECIPE = 1  # raised whenever a reader or a step makes something else of the same corpus

Work = Callable[[Sequence[Example]], Sequence[Example | Rejected]]


class Step(Protocol):
  """What is done to records after they are read: a frozen dataclass that goes to other processes."""

  def open(self) -> Work:
    """Returns the function, with its models loaded; called once in each process.

    It takes some records and returns as many, each as it should be now or put aside.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
  """What is done to the records of any corpus, as a config; `mark`: what else they depend on, such as a training."""

  steps: tuple[Step, ...]
  mark: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
  """How a split is made.

  Attributes:
    corpus: where the records come from.
    steps: what is done to them, in this order.
    portion: entries of one shard, and of one job.
    chunk: records that the steps are given at a time.
    max_rejected: share of the entries that may be put aside.
    limit: only so many of the entries, the first ones; 0: all.
    mark: what else the records depend on, such as the training of a model.
  """

  corpus: Corpus
  steps: tuple[Step, ...] = ()
  portion: int = 2048
  chunk: int = 64
  max_rejected: float = 0.01
  limit: int = 0
  mark: str = ""

  def __post_init__(self):
    if min(self.portion, self.chunk) < 1 or self.limit < 0 or not 0 <= self.max_rejected <= 1:
      raise UserError(
        f"portion {self.portion}, chunk {self.chunk}, limit {self.limit}, max_rejected {self.max_rejected}",
        where="Preparation",
        rule="portion and chunk are at least 1, limit at least 0, max_rejected a share",
        remedy="correct the numbers",
      )


@dataclasses.dataclass(frozen=True)
class Made:
  """What became of a split: its records, what was put aside, and whether it was already there."""

  records: int
  rejected: int
  was_there: bool = False


@dataclasses.dataclass(frozen=True)
class Job:
  """One shard to make; all that another machine needs, beside the folder."""

  preparation: Preparation
  folder: Path
  number: int


Runner = Callable[[Sequence[Job], Callable[[Job], None]], Generator[int]]


def prepare(
  preparation: Preparation,
  folder: Path,
  split: str,
  *,
  replace: bool = False,
  run: Runner = HERE,
  say: Callable[[str], None] = print,
) -> Made:
  """Makes `split` of the set in `folder`, or what is missing of it, and returns what it holds.

  Args:
    preparation: what is made.
    folder: of the set; its name is the set's.
    split: its name.
    replace: whether a split that was made from something else is made anew instead of refused.
    run: yields the number of each job it has done: `run_in_processes(workers)` or `build.beam.run_on_beam(...)`.
    say: is given a line for each thing done.

  Raises:
    UserError: the corpus is not there, too much of it cannot be used, the split was made from something else, the
      corpus has changed since it was begun, or the disk refuses. What is finished is kept.
  """
  folder = Path(folder)
  mark = fingerprint((preparation_identity(preparation), RECIPE, SCHEMA_VERSION))
  remedy = f"choose another name, or delete {folder} to make it again"
  if is_made(folder, split, mark, remedy=remedy, replace=replace):
    entry = read_splits(folder)[split]
    return Made(sum(map(int, entry["shardLengths"])), _count_lines(quarantine_path(folder, split)), was_there=True)
  work = folder / f".{split}.making"
  try:
    num_entries, num_jobs = _list_entries(preparation, work, mark, replace=replace)
    _make_parts(preparation, work, num_jobs, num_entries, run=run, where=folder / split, say=say)
    parts = [_read_part(work, number) for number in range(num_jobs)]
    rejected = [one for _, part in parts for one in part]
    _put_aside(quarantine_path(folder, split), rejected, preparation, size=num_entries)
    shards = [shard for shard, _ in parts]
    if not sum(shard.records for shard in shards):
      raise UserError("no records", where=folder / split, rule="a split holds at least one", remedy="check the source")
    publish(folder, split, shards)
    remember(folder, split, mark)
    shutil.rmtree(work)
  except OSError as error:
    raise unwritable(folder, error) from error
  return Made(sum(shard.records for shard in shards), len(rejected))


def preparation_identity(preparation: Preparation) -> Preparation:
  """Returns what the records of a preparation depend on: without the bound of what may be put aside."""
  return dataclasses.replace(preparation, max_rejected=0.0)


def quarantine_path(folder: Path, split: str) -> Path:
  """Returns the file of a set's entries that were put aside."""
  return folder / f"quarantine-{split}.jsonl"


def make_part(job: Job) -> None:
  """Makes one shard from its listing, whole or not at all."""
  path = job.folder / "parts" / f"{job.number:05d}"
  own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # Beam may run one job twice at once
  entries = _read_listing(job.folder / "listing" / f"{path.name}.jsonl")
  rejected: list[Rejected] = []
  shard = write_shard(own, _kept(job.preparation, entries, rejected))
  told = {"records": shard.records, "num_bytes": shard.num_bytes, "sha256": shard.sha256}
  os.replace(own, path)
  own.write_text(json.dumps({**told, "rejected": [dataclasses.astuple(one) for one in rejected]}))
  os.replace(own, path.with_suffix(".json"))  # the part exists


def _kept(preparation: Preparation, entries: Sequence[Entry], rejected: list[Rejected]) -> Iterator[bytes]:
  """Yields the records of some entries as they are written, a chunk in memory at a time; fills `rejected`."""
  for start in range(0, len(entries), preparation.chunk):
    for result in _records(preparation, entries[start : start + preparation.chunk]):
      final = _serialized(result) if isinstance(result, Example) else result
      if isinstance(final, Rejected):
        rejected.append(final)
      else:
        yield final


def _records(preparation: Preparation, entries: Sequence[Entry]) -> list[Example | Rejected]:
  """Returns what becomes of some entries, in their order."""
  results: list[Example | Rejected] = [_read(preparation.corpus, entry) for entry in entries]
  for step in preparation.steps:
    places = [place for place, result in enumerate(results) if isinstance(result, Example)]
    done = _opened(step)([results[place] for place in places])  # pyright: ignore[reportArgumentType]: only examples
    for place, result in zip(places, done, strict=True):
      results[place] = result
  return results


def _read(corpus: Corpus, entry: Entry) -> Example | Rejected:
  if entry.reason:
    return Rejected(entry.id, entry.reason)
  try:
    return corpus.read(entry)
  except UserError as error:
    return Rejected(entry.id, reason_of(error))
  except OSError as error:  # one unreadable file; a disk that is gone stops the run by the share
    return Rejected(entry.id, f"cannot read: {error}")


def _serialized(example: Example) -> bytes | Rejected:
  try:
    return serialize(example)
  except UserError as error:
    return Rejected(example.id, reason_of(error))


@functools.lru_cache(maxsize=8)
def _opened(step: Step) -> Work:
  return step.open()


def _list_entries(preparation: Preparation, work: Path, mark: str, *, replace: bool) -> tuple[int, int]:
  """Writes the listing, or sees that the one that is there still holds, and returns the numbers of entries and jobs."""
  fresh = work / "listing.partial"
  shutil.rmtree(fresh, ignore_errors=True)
  fresh.mkdir(parents=True)
  digest, num_entries, num_jobs = hashlib.sha256(mark.encode()), 0, 0
  for portion in _portions(_unique(_limited(preparation)), preparation.portion):
    text = "".join(json.dumps(entry) + "\n" for entry in portion)
    digest.update(text.encode())
    (fresh / f"{num_jobs:05d}.jsonl").write_text(text)
    num_entries, num_jobs = num_entries + len(portion), num_jobs + 1
  if not num_entries:
    raise UserError("no entries", where=preparation.corpus, rule="a corpus holds at least one", remedy="check the path")
  told = json.dumps({"digest": digest.hexdigest(), "entries": num_entries})
  state = work / "listing.json"
  if state.is_file() and state.read_text() == told:
    shutil.rmtree(fresh)
    return num_entries, num_jobs
  if state.is_file() and not replace:
    shutil.rmtree(fresh)
    raise UserError(
      "it was begun with another corpus or other settings",
      where=work,
      rule="a preparation that goes on finds the files, settings and version with which it began",
      remedy=f"delete {work} to begin again",
    )
  state.unlink(missing_ok=True)
  for name in ("parts", "listing"):
    shutil.rmtree(work / name, ignore_errors=True)
  (work / "parts").mkdir()
  os.replace(fresh, work / "listing")
  write_whole(state, told)
  return num_entries, num_jobs


def _limited(preparation: Preparation) -> Iterator[Entry]:
  try:
    for count, entry in enumerate(preparation.corpus.entries()):
      if preparation.limit and count == preparation.limit:
        return
      yield entry
  except OSError as error:
    raise UserError(
      f"cannot list: {error}", where=preparation.corpus, rule="the corpus can be read", remedy="check its permissions"
    ) from error


def _unique(entries: Iterable[Entry]) -> Iterator[Entry]:
  """Yields the entries; the second one of an id, and one whose id is no text, is put aside.

  Of an id 16 bytes of its hash are remembered: a million entries take about 100 MB.
  """
  seen: set[bytes] = set()
  for place, entry in enumerate(entries):
    try:
      raw = entry.id.encode()
    except UnicodeEncodeError:
      yield Entry(f"{entry.id!a}#{place}", entry.at, "a name that is no text")
      continue
    if not entry.id:
      yield Entry(f"#{place}", entry.at, entry.reason or "an empty id")
      continue
    key = hashlib.blake2b(raw, digest_size=16).digest()
    yield entry._replace(reason=entry.reason or "its id occurs twice") if key in seen else entry
    seen.add(key)


def _portions(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
  portion = []
  for entry in entries:
    portion.append(entry)
    if len(portion) == size:
      yield portion
      portion = []
  if portion:
    yield portion


def _make_parts(
  preparation: Preparation,
  work: Path,
  num_jobs: int,
  num_entries: int,
  *,
  run: Runner,
  where: Path,
  say: Callable[[str], None],
) -> None:
  """Makes the parts that are not there; stops as soon as too much is put aside."""
  there = {number for number in range(num_jobs) if (work / "parts" / f"{number:05d}.json").is_file()}
  left = [number for number in range(num_jobs) if number not in there]
  say(f"{where}: {num_entries} entries in {num_jobs} shards, {len(there)} of them made before, in {work}")
  rejected = [one for number in sorted(there) for one in _read_part(work, number)[1]]
  features()  # imports tensorflow-datasets, whose lazy imports would disturb those of the progress bar's thread
  jobs = [Job(preparation, work, number) for number in left]
  with bars() as progress, contextlib.closing(run(jobs, make_part)) as done:
    bar = progress.add_task(str(where), total=num_jobs, completed=len(there))
    for number in done:
      rejected += _read_part(work, number)[1]
      progress.advance(bar)
      if len(rejected) > preparation.max_rejected * num_entries:
        _put_aside(work / "quarantine.jsonl", rejected, preparation, size=num_entries)


def _put_aside(path: Path, rejected: Sequence[Rejected], preparation: Preparation, *, size: int) -> None:
  """Writes what cannot be used of so many entries, and stops if it is too much."""
  write_quarantine(path, rejected)
  require_share(
    rejected, size=size, max_share=preparation.max_rejected, where=preparation.corpus, path=path,
    remedy="allow more with --max-rejected",
  )  # fmt: skip


def _read_listing(path: Path) -> list[Entry]:
  with path.open() as file:
    return [Entry(id, tuple(at), reason) for id, at, reason in map(json.loads, file)]


def _read_part(work: Path, number: int) -> tuple[Shard, list[Rejected]]:
  path = work / "parts" / f"{number:05d}"
  told = json.loads(path.with_suffix(".json").read_text())
  rejected = [Rejected(*one) for one in told["rejected"]]
  return Shard(path, told["records"], told["num_bytes"], told["sha256"]), rejected


def _count_lines(path: Path) -> int:
  return path.read_bytes().count(b"\n") if path.is_file() else 0
