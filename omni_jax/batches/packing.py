"""Samples of different length laid side by side in rows of one length, tokens and patches together.

    tokens        u a b A c e  u i i a A d e  .        patches        1 1 1 1 2 2 2 2 2 2 2 2 . .
    segment_ids   1 1 1 1 1 1  2 2 2 2 2 2 2  0        (segment ids)  sample 1 had one cell, sample 2 two
    positions     0 1 2 3 4 5  0 1 2 3 4 5 6  0

A sample is never cut and targets were shifted before, so no target crosses a border. First fit over a few rows more
than a batch keeps about nineteen of twenty places full.
"""

from typing import Any

import grain
import numpy as np

from omni_jax.batches.sources import NO_PATCH, Sample

_LOOKAHEAD = 2  # batches that are filled at once
_TOKEN_FIELDS = ("positions", "branch_ids", "targets", "loss_mask", "target_kind")  # beside the tokens themselves
_PATCH_FIELDS = ("patches", "patch_positions", "patch_segment_ids")


def pack(samples: grain.IterDataset, *, rows: int, length: int, patches: int, window: int = 0) -> grain.IterDataset:
  """Returns batches of packed samples.

  Args:
    samples: `Sample`s that fit a row.
    rows: of a batch.
    length: tokens of a row.
    patches: patches of a row; 0 if no sample has an image.
    window: patches of a window, every image filling one; 0: a row is one window.
  """
  lengths: dict[str, int] = dict.fromkeys(("tokens", *_TOKEN_FIELDS), length)
  if patches:
    lengths |= {"patches": patches, "patch_positions": patches}
  fields = tuple(lengths)
  packed = grain.experimental.FirstFitPackIterDataset(
    samples.map(lambda sample: {name: getattr(sample, name) for name in fields}),
    length_struct=lengths,
    num_packing_bins=rows * _LOOKAHEAD,
    shuffle_bins=False,
    # For these, places and segments would be counted once more.
    meta_features=[name for name in fields if name not in ("tokens", "patches")],
  )
  return packed.map(lambda row: _named(row, window=window or patches)).batch(rows, drop_remainder=True)


def fits(sample: Sample, *, length: int, patches: int) -> str:
  """Returns why a sample fits no row, or nothing."""
  if len(sample.tokens) > length:
    return f"{len(sample.tokens)} tokens, a row has {length}"
  if len(sample.patches) > patches:
    return f"{len(sample.patches)} patches, a row has {patches}"
  return ""


def _named(row: dict[str, Any], *, window: int) -> dict[str, np.ndarray]:
  """Returns the row under the names that models read, its patches cut into windows."""
  names = {"tokens_segment_ids": "segment_ids", "patches_segment_ids": "patch_segment_ids"}
  counted = ("tokens_positions", "patches_positions")  # places in the sample; it states its own
  named = {names.get(name, name): value for name, value in row.items() if name not in counted}
  if "patches" in named:
    is_patch = named["patch_positions"][:, 0] != NO_PATCH
    named["patch_segment_ids"] = np.where(is_patch, named["patch_segment_ids"], 0)
    named["patch_positions"] = np.where(is_patch[:, None], named["patch_positions"], 0)
    named |= {name: named[name].reshape(-1, window, *named[name].shape[1:]) for name in _PATCH_FIELDS}
  return named
