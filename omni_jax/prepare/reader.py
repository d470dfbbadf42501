"""Random access to the records of a split: a data source for grain, readable by any number of processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import Example, from_bytes
from omni_jax.prepare.writer import checksum, read_checksums, read_splits, shard_names

_TOGETHER = 64  # records read at once, where they are small:
_SMALL_BYTES = 1 << 14  # larger ones, with sound or an image, cost less one after another


class ExampleSource:
  """The records of one split by index; picklable, since files are opened on first use in each process."""

  def __init__(self, folder: Path, split: str):
    """Checks that the split is there and complete.

    Raises:
      UserError: no such set, split or shard.
    """
    self.folder, self.split = Path(folder), split
    splits = read_splits(self.folder)
    if split not in splits:
      raise UserError(
        f"no split {split!r}",
        where=self.folder,
        rule=f"the set has the splits {', '.join(sorted(splits)) or 'none (no dataset_info.json)'}",
        remedy="run `omni corpus` (then `omni encode` for units) first, or choose one of these",
      )
    self._lengths = [int(length) for length in splits[split]["shardLengths"]]
    self._num_bytes = int(splits[split].get("numBytes", 0))
    names = shard_names(self.folder.name, split, len(self._lengths))
    self.shards = [self.folder / name for name in names]
    for path in self.shards:
      if not path.is_file():
        raise UserError("no such shard", where=path, rule="every shard of a split is there", remedy=_REMEDY)
    self._opened: Any = None

  def __len__(self) -> int:
    return sum(self._lengths)

  def __getitem__(self, index: int) -> Example:
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)} in {self.folder}/{self.split}")
    try:
      return from_bytes(self._records()[index])
    except Exception as error:  # array_record and protobuf raise their own types; all mean damage
      path, place = self._locate(index)
      raise _damaged(path, f"record {place} (number {index} of split {self.split}): {error}") from error

  def __iter__(self) -> Iterator[Example]:
    return self.run(0, len(self))

  def run(self, first: int, stop: int) -> Iterator[Example]:
    """Yields records `first` to `stop` - 1; small ones are read many at once, at a fifth of the cost.

    Raises:
      UserError: a record is damaged; it is named.
    """
    if self._num_bytes >= _SMALL_BYTES * len(self):
      yield from (self[index] for index in range(first, stop))
      return
    for start in range(first, stop, _TOGETHER):
      indices = range(start, min(start + _TOGETHER, stop))
      try:
        examples = [from_bytes(data) for data in self._records().__getitems__(indices)]
      except Exception:  # reading them one by one tells which
        examples = [self[index] for index in indices]
      yield from examples

  def __repr__(self) -> str:
    return f"ExampleSource({str(self.folder)!r}, {self.split!r})"

  def __getstate__(self) -> dict[str, Any]:
    return {**self.__dict__, "_opened": None}

  def _locate(self, index: int) -> tuple[Path, int]:
    """Returns the shard of a record and its place there."""
    for path, length in zip(self.shards, self._lengths, strict=True):
      if index < length:
        return path, index
      index -= length
    raise AssertionError("the index is within the split")

  def _records(self) -> Any:
    if self._opened is None:
      self._opened = self._open()
    return self._opened

  def _open(self) -> Any:
    """Returns the records as bytes."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
      records = ArrayRecordDataSource([str(path) for path in self.shards])
      num_records = len(records)
    except Exception as error:
      raise _damaged(self.folder, f"split {self.split}: {error}") from error
    if num_records != len(self):
      raise _damaged(self.folder, f"split {self.split} has {num_records} records, its metadata says {len(self)}")
    return records


def open_set(folder: Path, split: str) -> ExampleSource:
  """Returns the records of `split` of the set in `folder`.

  Raises:
    UserError: no such set or split.
  """
  return ExampleSource(folder, split)


def verify_split(folder: Path, split: str) -> int:
  """Reads every shard of a split once and returns how many are as they were written; old sets have no checksums.

  Raises:
    UserError: a shard is missing or has changed; it is named.
  """
  folder = Path(folder)
  names = [path.name for path in ExampleSource(folder, split).shards]
  expected = read_checksums(folder)
  for name in names:
    if name in expected and checksum(folder / name) != expected[name]:
      raise _damaged(folder / name, "the file is another than the one that was written")
  return sum(name in expected for name in names)


_REMEDY = "delete the folder and run `omni corpus` (or `omni encode`) again"


def _damaged(path: Path, what: str) -> UserError:
  return UserError(f"damaged: {what}", where=path, rule="records are what the writer wrote", remedy=_REMEDY)
