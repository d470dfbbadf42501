"""A tiny EMOVA with packed rows of text, units, images and padding; importable by the processes that tests start."""

import dataclasses

import grain
import numpy as np

from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.moe import ExpertsConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig

IMAGE = 3
PLACES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # of the patches of an image of one cell


def model_config(*, experts=None, vision_heads=2, **changes):
  """Four heads, two of keys and values; sizes that two devices divide on every axis."""
  fields = {
    "vocab_size": 40,
    "extra_vocab_size": 24,
    "width": 16,
    "depth": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "mlp_dim": 24,
    "rope_theta": 100.0,
    "norm_eps": 1e-6,
    "qkv_bias": True,
    "tied": True,
    "remat": True,
  }
  return EmovaConfig(
    decoder=DecoderConfig(**{**fields, "experts": experts, **changes}),
    vision=VisionConfig(
      patch=2,
      temporal_patch=1,
      merge=2,
      width=8 * vision_heads,
      depth=2,
      num_heads=vision_heads,
      mlp_dim=32,
      out_width=12,
    ),
    projector=ProjectorConfig(inputs=12, outputs=16),
    image_token=IMAGE,
  )


def wide_config():
  """Every axis of it is divided by eight devices; its first layer is dense, its second has experts."""
  experts = experts_config(num_experts=8)
  return model_config(experts=experts, dense_depth=1, vision_heads=8, num_heads=8, num_kv_heads=8, head_dim=4)


def experts_config(**changes):
  fields = {"num_experts": 4, "num_chosen": 2, "num_shared": 1, "mlp_dim": 8, "balance_weight": 0.01}
  return ExpertsConfig(**{**fields, "capacity_factor": 2.0, **changes})


def record(index, *, length):
  """One packed row: two or three segments, an image in the first, the last one shorter in every other row."""
  generator = np.random.default_rng(index)
  border, end = int(generator.integers(5, length - 4)), length - (index % 2) * 2
  places = np.arange(length)
  segment_ids = np.where(places < border, 1, np.where(places < end, 2, 0))
  tokens = generator.integers(4, 64, length + 1)
  tokens[1] = IMAGE
  learned = (segment_ids > 0) & (generator.random(length) < 0.2 + 0.6 * (index % 3) / 2) & (places != border - 1)
  kinds = np.where(tokens[1:] >= 40, 2, 1)
  return {
    "tokens": tokens[:-1].astype(np.int32),
    "targets": np.where(tokens[1:] == IMAGE, 4, tokens[1:]).astype(np.int32),
    "positions": np.where(places < border, places, places - border).astype(np.int32),
    "segment_ids": segment_ids.astype(np.int32),
    "loss_mask": (learned * np.where(kinds == 2, 0.5, 1.0)).astype(np.float32),
    "target_kind": (kinds * learned).astype(np.int8),
    "patches": generator.integers(0, 256, (1, 4, 12)).astype(np.uint8),
    "patch_positions": PLACES[None].astype(np.int32),
    "patch_segment_ids": np.ones((1, 4), np.int32),
  }


def batch_of(rows=8, *, length=16):
  """Returns the first rows as one batch of NumPy arrays."""
  records = [record(index, length=length) for index in range(rows)]
  return {name: np.stack([one[name] for one in records]) for name in records[0]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedData:
  rows: int
  length: int

  def open(self):
    dataset = grain.MapDataset.range(64).shuffle(seed=1).repeat()
    return dataset.map(lambda index: record(index, length=self.length)).to_iter_dataset().batch(self.rows)
