"""Tiny HuBERTs and their twins of transformers."""

import dataclasses

import pytest

from omni_jax.convert.hubert import HubertNames, export_hubert_tensors
from omni_jax.core import trees
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.hubert import HUBERT_BASE, HUBERT_LARGE, StemLayer
from tests.models.drawn import drawn

STEM = (
  StemLayer(width=10, taps=10, stride=5),
  StemLayer(width=12, taps=3, stride=2),
  StemLayer(width=14, taps=2, stride=2),
)
# Three heads of width six.
BLOCKS = EncoderConfig(width=18, depth=2, num_heads=3, mlp_dim=20, norm_eps=1e-5, norm_first=False)
SIZES = {"stem": STEM, "position_taps": 8, "position_groups": 3}
BASE = dataclasses.replace(HUBERT_BASE, encoder=BLOCKS, **SIZES)
LARGE = dataclasses.replace(
  HUBERT_LARGE, encoder=dataclasses.replace(BLOCKS, norm_first=True), **{**SIZES, "position_taps": 7}
)
CONFIGS = {"base": BASE, "large": LARGE}


def card(config):
  """Returns the dimensions of a config by transformers' names."""
  return {
    "hidden_size": config.encoder.width,
    "num_hidden_layers": config.encoder.depth,
    "num_attention_heads": config.encoder.num_heads,
    "intermediate_size": config.encoder.mlp_dim,
    "layer_norm_eps": config.encoder.norm_eps,
    "do_stable_layer_norm": config.encoder.norm_first,
    "conv_dim": [layer.width for layer in config.stem],
    "conv_kernel": [layer.taps for layer in config.stem],
    "conv_stride": [layer.stride for layer in config.stem],
    "num_feat_extract_layers": len(config.stem),
    "conv_bias": config.stem_bias,
    "feat_extract_norm": "layer" if config.stem_norm_each else "group",
    "num_conv_pos_embeddings": config.position_taps,
    "num_conv_pos_embedding_groups": config.position_groups,
    "attn_implementation": "eager",
  }


def hubert(config, seed=0):
  return drawn(config, seed=seed)


def twin(model):
  """Returns transformers' HubertModel with our weights, every name used."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  module = transformers.HubertModel(transformers.HubertConfig(**card(model.config)))
  tensors = export_hubert_tensors(model.config, trees.flatten(model), HubertNames.TRANSFORMERS)
  module.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
  return module.eval()
