"""Samples of different length laid side by side in rows of one length, tokens and images together.

    tokens        u a b A c e  u i i a A d e  .        patches        1 1 1 1 2 2 2 2 2 2 2 2 . .
    segment_ids   1 1 1 1 1 1  2 2 2 2 2 2 2  0        (segment ids)  sample 1 had one cell, sample 2 two
    positions     0 1 2 3 4 5  0 1 2 3 4 5 6  0

A sample stays whole and targets were shifted before, so no target crosses a border. First fit over a few rows more
than a batch keeps about nineteen of twenty places full.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np

from omni_jax.batches.hearing import Recordings
from omni_jax.batches.meanings import Meanings
from omni_jax.batches.pictures import SEGMENTS, TileSize
from omni_jax.batches.sources import ImageSize, Sample, SampleWriter, Source

_LOOKAHEAD = 2  # batches that are filled at once
_TOKEN_FIELDS = ("positions", "branch_ids", "targets", "loss_mask", "target_kind")  # beside the tokens themselves


class Reading(NamedTuple):
  """How the records of some batches are written, and laid into rows.

  Attributes:
    writer: makes what writes one view of a source.
    key: JSON data, all that a grid depends on beside its record, its view and the heard style.
    images: how images, or recordings, are laid into rows.
    pieces: of images in a row, or recordings; 0: no sample has one.
    meanings: makes what tells people about an id.
    branched: whether samples may have several answers to one beginning.
  """

  writer: Callable[[Source], SampleWriter]
  key: Any
  images: ImageSize | TileSize | Recordings
  pieces: int
  meanings: Callable[[], Meanings]
  branched: bool = True


@runtime_checkable
class Packed(Protocol):
  """What a config of packed batches has, of whatever kind its samples are."""

  @property
  def sources(self) -> tuple[Source, ...]:
    """What is read, in which shares."""
    ...

  @property
  def rows(self) -> int:
    """Of a batch."""
    ...

  @property
  def length(self) -> int:
    """Tokens of a row."""
    ...

  @property
  def quarantine(self) -> Path:
    """File for records that cannot be used."""
    ...

  @property
  def max_bad_share(self) -> float:
    """Of a source's records that may be put aside."""
    ...

  @property
  def seed(self) -> int:
    """Of the order."""
    ...

  def open(self) -> grain.IterDataset:
    """Returns endless batches."""
    ...

  def read_as(self) -> Reading:
    """Returns how records are written and laid into rows; loads the tokenizer."""
    ...


def pack(
  samples: grain.IterDataset, *, rows: int, length: int, images: ImageSize | TileSize | Recordings, pieces: int
) -> grain.IterDataset:
  """Returns batches of packed samples.

  Args:
    samples: `Sample`s that fit a row.
    rows: of a batch.
    length: tokens of a row.
    images: how images, or recordings, are laid into rows.
    pieces: of images, patches or tiles, or recordings, in a row; 0 if no sample has one.
  """
  lengths = _lengths(length, images=images, pieces=pieces)
  packed = grain.experimental.FirstFitPackIterDataset(
    samples.map(lambda sample: {name: value for name, value in fields(sample).items() if name in lengths}),
    length_struct=lengths,
    num_packing_bins=rows * _LOOKAHEAD,
    shuffle_bins=False,
    meta_features=_TOKEN_FIELDS,  # for these, places and segments would be counted once more
  )
  return packed.map(lambda row: _named(row, images=images if pieces else None)).batch(rows, drop_remainder=True)


def lay(
  samples: Sequence[Sample], *, like: Sample, length: int, images: ImageSize | TileSize | Recordings, pieces: int
) -> dict[str, np.ndarray]:
  """Returns the row that `pack` makes of these samples.

  Args:
    samples: in their order; together they fit.
    like: any sample of the same data, where there is none.
    length: tokens of a row.
    images: how images are laid into rows.
    pieces: of images in a row; 0 if no sample has an image.
  """
  row: dict[str, Any] = {}
  for name, size in _lengths(length, images=images, pieces=pieces).items():
    parts = [fields(sample)[name] for sample in samples] or [fields(like)[name][:0]]
    joined = np.concatenate(parts)
    row[name] = np.zeros((size, *joined.shape[1:]), joined.dtype)
    row[name][: len(joined)] = joined
    segments = np.repeat(np.arange(1, len(parts) + 1, dtype=np.int32), [len(part) for part in parts])
    row[name + SEGMENTS] = np.zeros(size, np.int32)
    row[name + SEGMENTS][: len(joined)] = segments
  return _named(row, images=images if pieces else None)


def fields(sample: Sample) -> dict[str, np.ndarray]:
  """Returns every array of a sample by name."""
  return {name: value for name, value in sample._asdict().items() if name != "images"} | sample.images


def fits(sample: Sample, lengths: Mapping[str, int]) -> str:
  """Returns why a sample fits no row of these lengths, or nothing."""
  arrays = fields(sample)
  for name, length in lengths.items():
    if len(arrays[name]) > length:
      return f"{len(arrays[name])} {name}, a row has {length}"
  return ""


def _lengths(length: int, *, images: ImageSize | TileSize | Recordings, pieces: int) -> dict[str, int]:
  """Returns how long each array of a row is."""
  lengths: dict[str, int] = dict.fromkeys(("tokens", *_TOKEN_FIELDS), length)
  return lengths | images.lengths(pieces, tokens=length) if pieces else lengths


def _named(row: dict[str, Any], *, images: ImageSize | TileSize | Recordings | None) -> dict[str, np.ndarray]:
  """Returns the row under the names that models read."""
  named = {name: row[name] for name in ("tokens", *_TOKEN_FIELDS)} | {"segment_ids": row["tokens" + SEGMENTS]}
  return named if images is None else named | images.finished(row)
