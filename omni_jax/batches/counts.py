"""Every sample of a source written as tokens once: how long it is, and the tokens themselves.

    plans/counts/speech-train-recognise-<key>.counts      COUNT [record], mapped into memory
                                             .tokens      uint32, the grids one after another, the same way

A record is written as tokens, its image measured from its header. What the key names (the records, the view, the
vocabulary, the template, how images are cut) is all that a grid depends on, so that a file is made once and serves
every run, and a row of text needs no record. Making it goes on where it was interrupted.

A grid is its rows, each token with the highest bit where it is learned, then the branches if there are any:

    a1 a2 a3 ... b1 b2 b3 ... (0 0 1 1 2 2)
"""

import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from omni_jax.batches.sources import SampleWriter
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import read_splits
from omni_jax.tokens.grid import Grid

VERSION = 1
# Tokens without and with the heard style of the user's speech; 0: it was not asked for, below: it cannot be made.
COUNT = np.dtype(
  [
    ("start", "<u8"),  # in the tokens
    ("tokens", "<i4", 2),
    ("pieces", "<i4"),
    ("image_tokens", "<i4"),
    ("units", "<i4"),
    ("rows", "u1"),  # of its grid
    ("branched", "u1"),
    ("images", "<u2"),
  ]
)
_LEARNED = np.uint32(1 << 31)
_TOGETHER = 4096  # records between two writes


class Counted(NamedTuple):
  """What is known of the samples of one view."""

  counts: np.ndarray  # COUNT [record]
  words: np.ndarray  # uint32, all grids
  styles: tuple[bool, ...]

  def grid(self, record: int, *, heard: bool) -> Grid:
    """Returns the grid of a record."""
    row = self.counts[record]
    start, stacked = int(row["start"]), int(row["rows"]) + int(row["branched"])
    for style in self.styles:
      columns = int(row["tokens"][int(style)]) + 1
      if style == heard:
        break
      start += columns * stacked
    words = self.words[start : start + columns * stacked].reshape(stacked, columns)
    tokens = words[: row["rows"]]
    branches = words[-1].astype(np.int32) if row["branched"] else np.zeros(columns, np.int32)
    return Grid((tokens & ~_LEARNED).astype(np.int32), tokens >= _LEARNED, branches)


Aside = Callable[[str, str], None]  # is given the id of a record that cannot be used, and why


def count(
  records: ExampleSource,
  writer: SampleWriter,
  *,
  styles: tuple[bool, ...],
  path: Path,
  aside: Aside,
  voices: tuple[str, ...] = (),
  progress: Callable[[range], Iterable[int]] = iter,
) -> Counted:
  """Returns the samples of a view, counted now unless `path` is there.

  Args:
    records: of one source.
    writer: of one of its views.
    styles: whether samples without (False) and with (True) the heard style are wanted; at least one of them.
    path: of the counts; made.
    aside: takes what cannot be used.
    voices: only records whose last turn is in one of these; none named: all.
    progress: wraps the blocks that are counted.

  Raises:
    UserError: the disk refuses, the counts are of other records, or what `aside` raises; what was counted is kept.
  """
  if not path.is_file():
    counted = functools.partial(_counted, writer=writer, styles=styles, aside=aside, voices=voices)
    try:
      _count_all(records, counted, path=path, progress=progress)
    except OSError as error:
      raise UserError(
        f"cannot write: {error.strerror or error}",
        where=path,
        rule="the folder can be written and the disk has room",
        remedy="free some space or choose another folder for plans, and run it again; what was counted is kept",
      ) from error
  if path.stat().st_size != len(records) * COUNT.itemsize:
    raise UserError(
      f"{path.stat().st_size} bytes of counts for {len(records)} records",
      where=path,
      rule=f"{COUNT.itemsize} bytes for each record",
      remedy="delete the file: it is counted again",
    )
  tokens = path.with_suffix(".tokens")
  words = np.memmap(tokens, np.uint32, "r") if tokens.stat().st_size else np.zeros(0, np.uint32)
  # Plain views: each slice of a memmap, of which a row takes several, costs 11 us.
  return Counted(np.memmap(path, COUNT, "r").view(np.ndarray), words.view(np.ndarray), styles)


def counts_path(folder: Path, records: ExampleSource, *, view: str, key: Any) -> Path:
  """Returns where the counts of a view of `records` are.

  Args:
    folder: of all counts.
    records: of one split.
    view: of the source.
    key: JSON data, all else that the length of a sample depends on.
  """
  text = json.dumps([VERSION, set_identity(records), view, key], sort_keys=True)
  name = f"{records.folder.name}-{records.split}-{view}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
  return folder / f"{name}.counts"


def set_identity(records: ExampleSource) -> Any:
  """Returns JSON data that another set of records does not have, wherever its folder is."""
  entry = read_splits(records.folder)[records.split]
  return [records.folder.name, records.split, entry["shardLengths"], entry.get("numBytes")]


def _count_all(
  records: ExampleSource,
  counted: Callable[[Example], tuple[np.ndarray, list[np.ndarray]]],
  *,
  path: Path,
  progress: Callable[[range], Iterable[int]],
) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if path.is_file():  # by the process that had the lock before
      return
    paths = {name: path.with_suffix(f".{name}") for name in ("counts", "tokens")}
    partial = {name: whole.with_suffix(f".{name}.partial") for name, whole in paths.items()}
    with partial["counts"].open("a+b") as file, partial["tokens"].open("ab") as words:
      done, end = _kept(file)
      words.truncate(end * 4)
      for start in progress(range(done, len(records), _TOGETHER)):
        rows = []
        for example in records.run(start, min(start + _TOGETHER, len(records))):
          row, grids = counted(example)
          row["start"] = end
          end += sum(words.write(grid.tobytes()) // 4 for grid in grids)
          rows.append(row)
        words.flush()
        file.write(np.stack(rows).tobytes())
        file.flush()
    os.replace(partial["tokens"], paths["tokens"])
    os.replace(partial["counts"], path)  # the last: it says that both are there


def _kept(file: BinaryIO) -> tuple[int, int]:
  """Returns how many records were counted in whole blocks, and where their tokens end; cuts off what was not."""
  size = _TOGETHER * COUNT.itemsize
  blocks = file.seek(0, os.SEEK_END) // size
  file.truncate(blocks * size)
  if not blocks:
    return 0, 0
  file.seek(-COUNT.itemsize, os.SEEK_END)
  last = np.frombuffer(file.read(), COUNT)[0]
  columns = sum(int(tokens) + 1 for tokens in last["tokens"] if tokens > 0)
  return blocks * _TOGETHER, int(last["start"]) + columns * (int(last["rows"]) + int(last["branched"]))


def _counted(
  example: Example, *, writer: SampleWriter, styles: tuple[bool, ...], aside: Aside, voices: tuple[str, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Returns the COUNT of one record, and its grids as words."""
  row, grids = np.zeros((), COUNT), []
  if voices and example.turns[-1].voice not in voices:
    return row, grids
  try:
    made = {hear_style: writer.measure(example, hear_style=hear_style) for hear_style in styles}
  except UserError as error:
    aside(example.id, error.what)
    row["tokens"] = -1
    return row, grids
  branched = any(size.grid.branches.any() for size in made.values())
  for hear_style, size in made.items():
    row["tokens"][int(hear_style)] = size.tokens
    row["pieces"], row["images"] = max(row["pieces"], size.pieces), max(row["images"], size.images)
    row["image_tokens"], row["units"], row["rows"] = size.image_tokens, size.units, len(size.grid.tokens)
    words = size.grid.tokens.astype(np.uint32) | size.grid.learned * _LEARNED
    grids += [words, *([size.grid.branches.astype(np.uint32)] if branched else [])]
  row["branched"] = branched
  return row, grids
