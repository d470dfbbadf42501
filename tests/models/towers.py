"""Tiny towers of one resolution and their torch twins with the same random weights."""

import dataclasses

import pytest

from omni_jax.convert.vision import CLIP_NAMES, INTERNVIT_NAMES, INTERNVL_NAMES, fixed_vision_rules
from omni_jax.models.fixed_vision_encoder import (
  CLIP_L_336,
  INTERNVIT_6B_448,
  INTERNVIT_300M_448,
  SIGLIP_SO400M_384,
  UNIT_1B_448,
)
from tests.models.drawn import drawn
from tests.models.twins import load_twin

# 3 heads of width 6; 15 = 4 patches of 3 and a rest of 3 for the tower that cuts one off.
TINY = {"side": 12, "patch": 3, "width": 18, "num_heads": 3, "mlp_dim": 20}
CLIP = dataclasses.replace(CLIP_L_336, **TINY, depth=3, features_after=2)
SIGLIP = dataclasses.replace(SIGLIP_SO400M_384, **{**TINY, "side": 14}, depth=3, features_after=2)
INTERNVIT_300M = dataclasses.replace(INTERNVIT_300M_448, **TINY, depth=2, features_after=2)
INTERNVIT_6B = dataclasses.replace(INTERNVIT_6B_448, **TINY, depth=2, features_after=2)
UNIT = dataclasses.replace(UNIT_1B_448, **TINY, depth=2, features_after=2, positions_side=7)


def tower(config):
  return drawn(config)


def sizes(config):
  """Returns the dimensions of a config by transformers' names."""
  return {
    "hidden_size": config.width,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": config.depth,
    "num_attention_heads": config.num_heads,
    "image_size": config.side,
    "patch_size": config.patch,
    "layer_norm_eps": config.norm_eps,
    "attn_implementation": "eager",
  }


def clip_module(config):
  transformers = pytest.importorskip("transformers")
  return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes(config)))


def siglip_module(config):
  transformers = pytest.importorskip("transformers")
  return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes(config), vision_use_head=False))


def internvl_module(config):
  pytest.importorskip("transformers")
  from transformers.models.internvl.configuration_internvl import InternVLVisionConfig
  from transformers.models.internvl.modeling_internvl import InternVLVisionModel

  from omni_jax.nn.norm import RMSNorm

  norm_type = "rms_norm" if config.norm is RMSNorm else "layer_norm"
  kinds = {"attention_bias": config.qkv_bias, "use_qk_norm": config.query_key_norm, "norm_type": norm_type}
  return InternVLVisionModel(InternVLVisionConfig(**sizes(config), **kinds))


# config -> the module of transformers and its names
STOCK = {
  "clip": (CLIP, clip_module, CLIP_NAMES),
  "siglip": (SIGLIP, siglip_module, CLIP_NAMES),
  "internvit-300m": (INTERNVIT_300M, internvl_module, INTERNVL_NAMES),
  "internvit-6b": (INTERNVIT_6B, internvl_module, INTERNVL_NAMES),
}
RELEASED = {**STOCK, "internvit-original": (INTERNVIT_6B, None, INTERNVIT_NAMES)}


def stock_twin(ours, name):
  config, module, names = STOCK[name]
  return load_twin(module(config), fixed_vision_rules(config, names), ours)
