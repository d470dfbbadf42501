"""Rows of parquet files by file, row group and place, a few in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import require_file, require_some

_TOGETHER = 16  # rows decoded at a time


def parquet_files(path: Path) -> list[Path]:
  """Returns the file, or every parquet file below the folder, in the order of their paths.

  Raises:
    UserError: there is none.
  """
  if not path.is_dir():
    return [require_file(path, holds="a parquet table")]
  return require_some(sorted(path.rglob("*.parquet")), where=path, rule="tables end with .parquet")


def rows(path: Path, *, columns: Sequence[str], needs: Sequence[str] = ()) -> Iterator[tuple[int, int, dict[str, Any]]]:
  """Yields row group, place in it and the fields `columns` of each row of a file; the others are not read.

  Raises:
    UserError: the file is damaged, or lacks one of `columns` or `needs`.
  """
  file = _open(path)
  missing = sorted({*columns, *needs} - set(file.schema_arrow.names))
  if missing:
    raise UserError(
      f"no column {', '.join(missing)}",
      where=path,
      rule=f"the table has {', '.join(file.schema_arrow.names)}",
      remedy="name the columns with --set",
    )
  for group in range(file.num_row_groups):
    if not columns:
      yield from ((group, place, {}) for place in range(file.metadata.row_group(group).num_rows))
      continue
    place = 0
    for batch in file.iter_batches(batch_size=4096, row_groups=[group], columns=list(columns)):
      for fields in batch.to_pylist():
        yield group, place, fields
        place += 1


def row(path: Path, *, group: int, place: int, columns: Sequence[str]) -> dict[str, Any]:
  """Returns the fields of one row; rows in rising order cost no second reading.

  Raises:
    UserError: the file is damaged or shorter than its listing.
  """
  key = (path, group, tuple(columns))
  cursor = _cursors.get(key)
  if cursor is None or cursor.first > place:
    _cursors.clear()
    cursor = _cursors[key] = _Cursor(path, group, columns)
  try:
    return cursor.read(place)
  except UserError:
    _cursors.clear()
    raise


class _Cursor:
  """Reads one row group forwards."""

  def __init__(self, path: Path, group: int, columns: Sequence[str]):
    self._path, self._group = path, group
    self._batches = _open(path).iter_batches(batch_size=_TOGETHER, row_groups=[group], columns=list(columns))
    self._batch: Any = None
    self.first = 0

  def read(self, place: int) -> dict[str, Any]:
    import pyarrow

    try:
      while self._batch is None or place >= self.first + self._batch.num_rows:
        self.first += self._batch.num_rows if self._batch is not None else 0
        self._batch = next(self._batches)
      return self._batch.slice(place - self.first, 1).to_pylist()[0]
    except (StopIteration, pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
      raise _damaged(self._path, f"row group {self._group}, row {place}: {error}") from error


_cursors: dict[Any, _Cursor] = {}


def _open(path: Path) -> Any:
  import pyarrow
  import pyarrow.parquet

  try:
    return pyarrow.parquet.ParquetFile(path)
  except (pyarrow.ArrowException, OSError) as error:
    raise _damaged(path, str(error)) from error


def _damaged(path: Path, what: str) -> UserError:
  return UserError(f"damaged: {what}", where=path, rule="a whole parquet file", remedy="fetch the file again")
