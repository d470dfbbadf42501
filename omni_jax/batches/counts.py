"""How long every sample of a source is, counted once: tokens of text, units and images, and pieces of images.

    plans/counts/speech-train-recognise-<key>.counts      COUNT [record], mapped into memory

A record is written as tokens, its image measured from its header. What the key names (the records, the view, the
vocabulary, the template, how images are cut) is all that a length depends on, so that a file is counted once and serves
every run. Counting goes on where it was interrupted.
"""

import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.batches.sources import Writer
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import read_splits

VERSION = 1
# Tokens without and with the heard style of the user's speech; 0: it was not asked for, below: it cannot be made.
COUNT = np.dtype([("tokens", "<i4", 2), ("pieces", "<i4"), ("image_tokens", "<i4"), ("units", "<i4")])
_TOGETHER = 4096  # records between two writes

Aside = Callable[[str, str], None]  # is given the id of a record that cannot be used, and why


def count(
  records: ExampleSource,
  writer: Writer,
  *,
  styles: tuple[bool, ...],
  path: Path,
  aside: Aside,
  voices: tuple[str, ...] = (),
  progress: Callable[[range], Iterable[int]] = iter,
) -> np.ndarray:
  """Returns COUNT [record], counted now unless `path` is there.

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
  return np.memmap(path, COUNT, "r")


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
  counted: Callable[[Example], np.ndarray],
  *,
  path: Path,
  progress: Callable[[range], Iterable[int]],
) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if path.is_file():  # by the process that had the lock before
      return
    partial, size = path.with_suffix(".partial"), _TOGETHER * COUNT.itemsize
    with partial.open("ab") as file:
      done = file.tell() // size
      file.truncate(done * size)  # what a killed process wrote of a block
      for start in progress(range(done * _TOGETHER, len(records), _TOGETHER)):
        block = range(start, min(start + _TOGETHER, len(records)))
        file.write(np.stack([counted(records[index]) for index in block]).tobytes())
        file.flush()
    os.replace(partial, path)


def _counted(
  example: Example, *, writer: Writer, styles: tuple[bool, ...], aside: Aside, voices: tuple[str, ...]
) -> np.ndarray:
  """Returns the COUNT of one record."""
  row = np.zeros((), COUNT)
  if voices and example.turns[-1].voice not in voices:
    return row
  try:
    for hear_style in styles:
      made = writer.measure(example, hear_style=hear_style)
      row["tokens"][int(hear_style)] = made.tokens
      row["pieces"] = max(row["pieces"], made.pieces)
      row["image_tokens"], row["units"] = made.image_tokens, made.units
  except UserError as error:
    aside(example.id, error.what)
    row = np.zeros((), COUNT)
    row["tokens"] = -1
  return row
