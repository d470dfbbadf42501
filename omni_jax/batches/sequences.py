"""Batches for the language model: sources mixed, written as tokens, and packed into rows.

    records -> view -> sample -> mixture -> packed rows -> batch

A batch is a dict of arrays, all [B, ...], as `models.emova` reads it:

    tokens, targets, positions, segment_ids  int32 [B, T]        segment 0 is padding
    branch_ids                               int32 [B, T]        see `tokens.grid`
    loss_mask                                float32 [B, T]      0 where nothing is learned
    target_kind                              int8 [B, T]         0 none, 1 text, 2 unit, 3 style
    patches                                  uint8 [B, W, P, C]  left out if the config has no patches
    patch_positions, patch_segment_ids       int32 [B, W, P, 2], [B, W, P]
"""

import dataclasses
from pathlib import Path

import grain

from omni_jax.batches.mixture import Quarantine, mix
from omni_jax.batches.packing import pack
from omni_jax.batches.sources import ImageSize, Source, Writer
from omni_jax.core.errors import UserError
from omni_jax.tokens.answers import Layout
from omni_jax.tokens.dialogue import load_dialogue
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
    patches: patches of a row (W * P); 0: no source has images.
    images: how images are cut.
    quarantine: file for records that cannot be used.
    cache_bytes: memory for samples that were written once (an image of 96 x 96 pixels takes 28 kB); 0: none is kept.
    max_bad_share: of a source's records that may be put aside.
    seed: of order and dropout.
  """

  text: Path
  vocabulary_id: str = ""
  template: Template
  layout: Layout
  sources: tuple[Source, ...]
  rows: int
  length: int
  patches: int
  images: ImageSize
  quarantine: Path
  cache_bytes: int = 0
  max_bad_share: float = 0.01
  seed: int

  def __post_init__(self):
    cell = self.images.window or self.images.merge**2
    if self.rows < 1 or self.length < 2 or self.patches % cell:
      raise UserError(
        f"{self.rows} rows of {self.length} tokens and {self.patches} patches",
        where="SequenceBatches",
        rule=f"at least one row of two tokens; patches are a multiple of {cell}, one merge cell or window",
        remedy="correct the config",
      )
    if not self.sources:
      raise UserError("no sources", where="SequenceBatches", rule="at least one source", remedy="correct the config")

  def open(self) -> grain.IterDataset:
    """Returns endless batches.

    Raises:
      UserError: a set or the vocabulary is missing or another one; while reading: too many records cannot be used.
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

    def quarantine(source: Source, size: int) -> Quarantine:
      return Quarantine(source, size=size, max_share=self.max_bad_share, path=self.quarantine)

    samples = mix(
      self.sources,
      writer=lambda source: Writer(source, dialogue=dialogue, images=self.images),
      quarantine=quarantine,
      length=self.length,
      patches=self.patches,
      cache_bytes=self.cache_bytes,
      seed=self.seed,
    )
    return pack(samples, rows=self.rows, length=self.length, patches=self.patches, window=self.images.window)
