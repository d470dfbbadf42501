"""A record set that this project wrote, as a corpus: what is taken through another step."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import Entry
from omni_jax.prepare.reader import ExampleSource, open_set
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import read_splits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
  """The records of `split` of the set in `folder`, in their order."""

  folder: Path
  split: str

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each record; its number stands for its id, which is read with the record."""
    for index in range(len(open_set(self.folder, self.split))):
      yield Entry(str(index), (index,))

  def read(self, entry: Entry) -> Example:
    """Returns the record."""
    return _source(self)[entry.at[0]]

  def written(self) -> list[Any]:
    """Returns JSON data that changes whenever the records are written anew."""
    entry = read_splits(self.folder)[self.split]
    files = sorted(self.folder.glob(f"{self.folder.name}-{self.split}.*"))
    sizes = [[path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return [entry["shardLengths"], entry.get("numBytes"), sizes]


def require_splits(folder: Path) -> list[str]:
  """Returns the names of the splits of a set, sorted.

  Raises:
    UserError: there is none.
  """
  splits = sorted(read_splits(folder))
  if not splits:
    raise UserError("no records", where=folder, rule="the set was made", remedy="run `omni corpus` first")
  return splits


_opened: dict[tuple[Records, int], ExampleSource] = {}


def _source(records: Records) -> ExampleSource:
  """Returns the set, opened once in each process, and again when it was written anew."""
  key = (records, (records.folder / "dataset_info.json").stat().st_mtime_ns)
  if key not in _opened:
    _opened.clear()
    _opened[key] = open_set(records.folder, records.split)
  return _opened[key]
