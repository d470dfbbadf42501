"""The plan as files: rows by number, planned when they are first asked for, the same whoever plans them.

    plans/<fingerprint>/00000.rows  00001.rows  ...      BLOCK_ROWS rows each

A file holds its rows, and where planning goes on after them, so that the next file needs no earlier one. It is written
whole, and two processes that write it write the same bytes: hosts and workers need not agree on who does. It is
mapped into memory, not read: a row costs its own entries.

    magic, version, checksum, next row, sizes, turn | ends int32 | entries ENTRY | drawn int64 | pool ENTRY
"""

import hashlib
import json
import mmap
import os
import struct
import threading
import uuid
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.batches.planner import ENTRY, Planner, Rows, State
from omni_jax.batches.shares import Turn
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

VERSION = 1  # of the files and of how rows are planned: another one plans other rows
BLOCK_ROWS = 1024
_MAGIC = b"omniplan"
_HEADER = struct.Struct("<8sIIQIIIIIII")  # magic, version, checksum, next row, four sizes, the three numbers of a turn
_OPEN = 4  # blocks


class Plan:
  """Rows by number; picklable, since files are opened on first use in each process."""

  def __init__(self, planner: Planner, *, folder: Path, identity: Any):
    """Names the folder of this plan, and plans nothing yet.

    Args:
      planner: decides.
      folder: of all plans.
      identity: JSON data that differs where `planner` would plan other rows.
    """
    text = json.dumps([VERSION, BLOCK_ROWS, identity], sort_keys=True)
    self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:12]
    self.folder = folder / self.fingerprint
    self._planner = planner
    self._start()

  def __getstate__(self) -> dict[str, Any]:
    return {name: self.__dict__[name] for name in ("fingerprint", "folder", "_planner")}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self._start()

  def row(self, number: int) -> np.ndarray:
    """Returns the samples of a row in their order, ENTRY [sample].

    Raises:
      UserError: a file of the plan is damaged or cannot be written.
    """
    number_of_block, place = divmod(number, BLOCK_ROWS)
    rows = self._block(number_of_block)
    return rows.entries[rows.ends[place - 1] if place else 0 : rows.ends[place]]

  def rows(self, first: int, count: int) -> list[np.ndarray]:
    """Returns the samples of `count` rows from row `first` on."""
    return [self.row(number) for number in range(first, first + count)]

  def extend(self, rows: int) -> None:
    """Plans ahead, so that at least `rows` rows are on disk."""
    self._block(max(rows - 1, 0) // BLOCK_ROWS)

  def _start(self) -> None:
    self._open: dict[int, Rows] = {}
    self._lock = threading.Lock()

  def _block(self, number: int) -> Rows:
    with self._lock:
      if number not in self._open:
        self._make(number)
        while len(self._open) >= _OPEN:
          self._open.pop(next(iter(self._open)))
        self._open[number] = _read(self._path(number))[0]
      return self._open[number]

  def _make(self, number: int) -> None:
    """Plans what is missing up to a block, from the newest block before it."""
    made = number
    while made >= 0 and not self._path(made).is_file():
      made -= 1
    if made == number:
      return
    state = self._planner.begin() if made < 0 else _read(self._path(made))[1]
    for missing in range(made + 1, number + 1):
      rows, state = self._planner.plan(state, BLOCK_ROWS)
      own = self.folder / f".{missing:05d}.{uuid.uuid4().hex}"  # another process may be writing the same rows
      write_whole(own, _bytes(rows, state))
      os.replace(own, self._path(missing))

  def _path(self, number: int) -> Path:
    return self.folder / f"{number:05d}.rows"


def _bytes(rows: Rows, after: State) -> bytes:
  turn = after.turn
  body = b"".join(part.tobytes() for part in (rows.ends, rows.entries, after.drawn, after.pool))
  sizes = (after.row, len(rows.ends), len(rows.entries), len(after.drawn), len(after.pool))
  return _HEADER.pack(_MAGIC, VERSION, zlib.crc32(body), *sizes, turn.phase, turn.cycle, turn.place) + body


def _read(path: Path) -> tuple[Rows, State]:
  """Returns the rows of a file, mapped into memory, and the state after them.

  Raises:
    UserError: it is not what was written.
  """
  with path.open("rb") as file:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
  try:
    magic, version, checksum, row, *sizes, phase, cycle, place = _HEADER.unpack_from(data)
    kinds = (np.dtype("<i4"), ENTRY, np.dtype("<i8"), ENTRY)
    total = sum(size * kind.itemsize for size, kind in zip(sizes, kinds, strict=True))
    if (magic, version, len(data)) != (_MAGIC, VERSION, _HEADER.size + total):
      raise ValueError(f"{len(data)} bytes, version {version}")
    if zlib.crc32(memoryview(data)[_HEADER.size :]) != checksum:
      raise ValueError("its checksum is another one")
  except (struct.error, ValueError) as error:
    raise UserError(
      f"damaged plan: {error}",
      where=path,
      rule="a file of a plan is what was written",
      remedy="delete the file: it is planned again, the same",
    ) from error
  parts, start = [], _HEADER.size
  for size, kind in zip(sizes, kinds, strict=True):
    parts.append(np.frombuffer(data, kind, size, start))
    start += size * kind.itemsize
  ends, entries, drawn, pool = parts
  return Rows(ends, entries), State(row, Turn(phase=phase, cycle=cycle, place=place), drawn, pool)
