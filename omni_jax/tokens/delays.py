"""Several streams side by side, each a few columns behind the one before it: codes of one frame depend on each other.

    row 0   . a0 a1 a2 END  .   .       delay 1       . is the row's pad
    row 1   .  .  b0 b1 b2 END  .       delay 2       frame 0 (a0 b0) is whole in column 2
    text    t0 t1 END .  .   .  .       delay 0

(MusicGen's delay pattern, arXiv 2306.05284, with text in front as in Mini-Omni, arXiv 2408.16725.) One operator,
`delay`, and its inverse, `undelay`, serve labels, whole answers and streams. Entries are local to their row: 0 is the
first of its codebook; `ids` and `entries` go to the ids of the model's tables and back.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One row of a grid: whose entries stand in it, how late, and which logits are about it.

  Attributes:
    name: in messages and metrics.
    group: rows of one group have heads that are slices of one table.
    first: id of entry 0; ids `first` to `first + size - 1` are the row's, and the logits of its head.
    size: entries, with marks and what means nothing.
    num_codes: entries below this are content.
    delay: columns of an answer before its first entry.
    end: entry behind the last.
    pad: entry before the first and behind the end.
  """

  name: str
  group: str
  first: int
  size: int
  num_codes: int
  delay: int
  end: int
  pad: int

  def __post_init__(self):
    marks_fit = self.num_codes <= min(self.end, self.pad) and max(self.end, self.pad) < self.size
    if not marks_fit or self.end == self.pad or min(self.delay, self.first) < 0 or self.num_codes < 1:
      raise UserError(
        f"{self}",
        where=f"row {self.name!r}",
        rule="end and pad are two entries behind the codes and below the size; delay and first are 0 or more",
        remedy="correct the layout",
      )


class Undelayed(NamedTuple):
  """The streams of the columns seen so far, int32 [N] each, and whether each has reached its end."""

  streams: list[np.ndarray]
  ended: list[bool]


def delay(streams: Sequence[np.ndarray | Sequence[int] | None], rows: Sequence[Row]) -> np.ndarray:
  """Returns entries int32 [R, T]: each stream behind its delay, one end behind it, pads everywhere else.

  T is the least that holds all ends. A stream that is None is a row of pads without an end.

  Raises:
    UserError: not one stream for each row, or an entry that is no code of its row.
  """
  if len(streams) != len(rows):
    raise _bad(f"{len(streams)} streams for {len(rows)} rows", "every row has a stream, or None")
  known = [None if stream is None else _checked(stream, row) for stream, row in zip(streams, rows, strict=True)]
  ends = [row.delay + len(stream) for stream, row in zip(known, rows, strict=True) if stream is not None]
  columns = np.repeat(np.array([[row.pad] for row in rows], np.int32), max(ends, default=-1) + 1, axis=1)
  for place, (stream, row) in enumerate(zip(known, rows, strict=True)):
    if stream is not None:
      columns[place, row.delay : row.delay + len(stream)] = stream
      columns[place, row.delay + len(stream)] = row.end
  return columns


def undelay(columns: np.ndarray, rows: Sequence[Row]) -> Undelayed:
  """Returns the streams in entries int32 [R, T], the first columns of an answer or all of them.

  A stream goes on to its end, or to the first entry that is no code, or to the last column.
  """
  if columns.ndim != 2 or len(columns) != len(rows):
    raise _bad(f"entries of shape {columns.shape} for {len(rows)} rows", "entries are [rows, columns]")
  streams, ended = [], []
  for entries, row in zip(columns, rows, strict=True):
    behind = entries[row.delay :]
    marks = np.flatnonzero((behind < 0) | (behind >= row.num_codes))
    length = int(marks[0]) if marks.size else len(behind)
    streams.append(behind[:length].astype(np.int32))
    ended.append(bool(marks.size) and int(behind[length]) == row.end)
  return Undelayed(streams, ended)


def frames(streams: Sequence[np.ndarray]) -> np.ndarray:
  """Returns int32 [F, R]: as many entries of every stream as the shortest has."""
  whole = min((len(stream) for stream in streams), default=0)
  return np.stack([stream[:whole] for stream in streams], axis=1).astype(np.int32)


class FrameStream:
  """Columns in as they come, frames out as soon as they are whole: those of `undelay` over all columns."""

  def __init__(self, rows: Sequence[Row]):
    self._rows, self._told = tuple(rows), 0
    self._columns = np.zeros((len(self._rows), 0), np.int32)

  def push(self, columns: np.ndarray) -> np.ndarray:
    """Returns the frames int32 [F, R] that entries int32 [R, N] make whole; may be none."""
    self._columns = np.concatenate([self._columns, np.asarray(columns, np.int32)], axis=1)
    whole = frames(undelay(self._columns, self._rows).streams)
    new, self._told = whole[self._told :], len(whole)
    return new


def ids(entries: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
  """Returns the ids in the model's tables of entries int32 [R, T]."""
  return (entries + np.array([[row.first] for row in rows])).astype(np.int32)


def entries(ids: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
  """Returns the entries of ids int32 [R, T].

  Raises:
    UserError: an id of another row.
  """
  local = ids - np.array([[row.first] for row in rows])
  outside = np.argwhere((local < 0) | (local >= np.array([[row.size] for row in rows])))
  if outside.size:
    place, column = outside[0]
    row = rows[place]
    raise _bad(
      f"id {ids[place, column]} in row {row.name!r}, column {column}",
      f"its ids are {row.first} to {row.first + row.size - 1}",
    )
  return local.astype(np.int32)


def _checked(stream: np.ndarray | Sequence[int], row: Row) -> np.ndarray:
  array = np.asarray(stream)
  array = array.astype(np.int32) if not array.size else array
  whole_numbers = array.ndim == 1 and np.issubdtype(array.dtype, np.integer)
  outside = array[(array < 0) | (array >= row.num_codes)] if whole_numbers else array
  if not whole_numbers or outside.size:
    what = f"entry {int(outside[0])}" if whole_numbers else f"an array of shape {array.shape} and type {array.dtype}"
    raise _bad(f"{what} in row {row.name!r}", f"its content are whole numbers within 0..{row.num_codes - 1}")
  return array.astype(np.int32)


def _bad(what: str, rule: str) -> UserError:
  return UserError(what, where="token grid", rule=rule, remedy="encode the speech again with the codec of this layout")
