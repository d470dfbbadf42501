"""Batches for the language model: sources mixed, written as tokens, and packed into rows.

    records -> view -> sample -> mixture -> packed rows -> batch

A batch is a dict of arrays, all [B, ...], as `models.emova` reads it:

    tokens, targets, positions, segment_ids  int32 [B, T]        segment 0 is padding
    branch_ids                               int32 [B, T]        see `tokens.grid`
    loss_mask                                float32 [B, T]      0 where nothing is learned
    target_kind                              int8 [B, T]         0 none, 1 text, 2 unit, 3 style
    patches                                  uint8 [B, W, P, C]  with `ImageSize`, where a row has patches
    patch_positions, patch_segment_ids       int32 [B, W, P, 2], [B, W, P]
    tiles                                    uint8 [B, N, Y, X, 3]  with `TileSize`, where a row has tiles
    tile_layout, tile_segment_ids            int32 [B, T], [B, N]

Of grids with several rows (codec models), tokens, targets, loss_mask and target_kind are [B, T, R].
"""

import dataclasses
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from omni_jax.batches.meanings import vocabulary_meanings
from omni_jax.batches.mixture import mix, quarantines
from omni_jax.batches.packing import Reading, pack
from omni_jax.batches.pictures import SEGMENTS, TileSize
from omni_jax.batches.sources import ImageSize, Source, Writer
from omni_jax.core.config import added, to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.images import PatchLayout
from omni_jax.prepare.tiles import TileLayout
from omni_jax.tokens.answers import Layout
from omni_jax.tokens.dialogue import Dialogue, load_dialogue
from omni_jax.tokens.templates import Template


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceBatches:
  """What a stage of the language model reads.

  Attributes:
    text: folder of the text tokenizer and the vocabulary.
    vocabulary_id: fingerprint of the vocabulary, so that a run and its checkpoint belong to one; empty: not checked.
    template: what stands between turns.
    layout: how a spoken answer is written.
    sources: what is read, in which shares.
    rows: of a batch (B).
    length: tokens of a row (T).
    patches: pieces of images in a row, patches (W * P) or tiles (N); 0: no source has images.
    images: how images are cut, and into which of the two.
    quarantine: file for records that cannot be used.
    cache_bytes: memory for samples that were written once (an image of 96 x 96 pixels takes 28 kB); 0: none is kept.
    max_bad_share: of a source's records that may be put aside.
    seed: of order and dropout.
    branched: whether samples may have several answers to one beginning (`tokens.grid`); rows without branches are
      read by kernels that never hold the scores of attention (`nn.attention.choose_kernel`).
    truncate: whether a sample too long for a row is cut, as EMOVA does, instead of put aside; an image is kept whole.
  """

  text: Path
  vocabulary_id: str = ""
  template: Template
  layout: Layout
  sources: tuple[Source, ...]
  rows: int
  length: int
  patches: int
  images: ImageSize | TileSize
  quarantine: Path
  cache_bytes: int = 0
  max_bad_share: float = 0.01
  seed: int
  truncate: bool = added(False)
  branched: bool = added(True)

  def __post_init__(self):
    cell = self.images.unit
    if self.rows < 1 or self.length < 2 or self.patches % cell:
      raise UserError(
        f"{self.rows} rows of {self.length} tokens and {self.patches} patches",
        where="SequenceBatches",
        rule=f"at least one row of two tokens; patches are a multiple of {cell}, one merge cell, window or tile",
        remedy="correct the config",
      )
    if not self.sources:
      raise UserError("no sources", where="SequenceBatches", rule="at least one source", remedy="correct the config")

  @property
  def image_layout(self) -> PatchLayout | TileLayout | None:
    """How images are held, equal to the model's `image_layout`; None without images."""
    return self.images.image_layout if self.patches else None

  def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns a batch as shapes; nothing is read."""
    tokens = ("tokens", "targets", "positions", "segment_ids", *(("branch_ids",) if self.branched else ()))
    row: dict[str, Any] = {name: np.zeros(self.length, np.int32) for name in tokens}
    row |= {"loss_mask": np.zeros(self.length, np.float32), "target_kind": np.zeros(self.length, np.int8)}
    if self.patches:
      lengths, empty = self.images.lengths(self.patches, tokens=self.length), self.images.read(()).arrays
      pieces = {name: np.zeros((lengths[name], *array.shape[1:]), array.dtype) for name, array in empty.items()}
      segments = {name + SEGMENTS: np.zeros(len(array), np.int32) for name, array in pieces.items()}
      row |= self.images.finished(pieces | segments)
    return {name: jax.ShapeDtypeStruct((self.rows, *array.shape), array.dtype) for name, array in row.items()}

  def open(self) -> grain.IterDataset:
    """Returns endless batches.

    Raises:
      UserError: a set or the vocabulary is missing or another one; while reading: too many records cannot be used.
    """
    samples = mix(
      self.sources,
      writer=self.read_as().writer,
      quarantine=quarantines(self.quarantine, max_share=self.max_bad_share),
      lengths={"tokens": self.length, **self.images.lengths(self.patches, tokens=self.length)},
      cache_bytes=self.cache_bytes,
      seed=self.seed,
    )
    batches = pack(samples, rows=self.rows, length=self.length, images=self.images, pieces=self.patches)
    return batches if self.branched else batches.map(without_branches)

  def dialogue(self) -> Dialogue:
    """Returns the writer of conversations.

    Raises:
      UserError: the vocabulary is missing or another one.
    """
    dialogue = load_dialogue(self.text, template=self.template, layout=self.layout)
    found = dialogue.vocabulary.fingerprint()
    if self.vocabulary_id not in ("", found):
      raise UserError(
        f"the vocabulary is {found}",
        where=self.text,
        rule=f"this run was configured for the vocabulary {self.vocabulary_id}",
        remedy="restore the vocabulary, or configure and train again",
      )
    return dialogue

  def read_as(self) -> Reading:
    """Returns how records are written and laid into rows.

    Raises:
      UserError: the vocabulary is missing or another one.
    """
    dialogue, cut = self.dialogue(), self.length if self.truncate else None
    key = to_json((dialogue.vocabulary.fingerprint(), self.template, self.layout, self.images))
    return Reading(
      lambda source: Writer(source, dialogue=dialogue, images=self.images, length=cut),
      [*key, cut],
      self.images,
      self.patches,
      lambda: vocabulary_meanings(dialogue.vocabulary, dialogue.tokenizer),
      self.branched,
    )


def without_branches(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns a batch or a row without `branch_ids`.

  Raises:
    UserError: some are not 0.
  """
  if batch["branch_ids"].any():
    raise UserError(
      "a sample with several answers to one beginning",
      where="SequenceBatches",
      rule="with branched=False every sample has one answer after another",
      remedy="leave branched at True, or take the source out",
    )
  return {name: array for name, array in batch.items() if name != "branch_ids"}
