"""Tiny models and their transformers twins with the same random weights."""

import jax
import numpy as np
import pytest

from omni_jax.convert.language import language_card, language_rules
from omni_jax.convert.table import export_tensors
from omni_jax.convert.vision import vision_rules
from omni_jax.core import trees
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig


def decoder_config(**changes):
  fields = {
    "vocab_size": 20,
    "extra_vocab_size": 12,
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
  }
  return DecoderConfig(**{**fields, **changes})


def vision_config(**changes):
  fields = {"patch": 2, "temporal_patch": 2, "merge": 2, "width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 32}
  return VisionConfig(**{**fields, "out_width": 12, **changes})


def emova_config(**changes):
  return EmovaConfig(
    decoder=decoder_config(**changes),
    vision=vision_config(),
    projector=ProjectorConfig(inputs=12, outputs=16),
    image_token=3,
  )


def shaken(model, key=5):
  """Returns the model with noise on every leaf, so that scales and biases count in a comparison."""
  leaves, structure = jax.tree.flatten(model)
  keys = jax.random.split(jax.random.key(key), len(leaves))
  noisy = [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
  return jax.tree.unflatten(structure, noisy)


def load_twin(twin, rules, model):
  """Puts our weights into a torch module, every name used."""
  import torch

  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(model).items()}
  tensors = {name: torch.from_numpy(np.array(t)) for name, t in export_tensors(rules, leaves).items()}
  missing, unexpected = twin.load_state_dict(tensors, strict=False)
  assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
  if "lm_head.weight" in missing:
    twin.tie_weights()
  return twin.eval()


def language_twin(decoder):
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  card = language_card(decoder.config, dtype="float32")
  card = {name: value for name, value in card.items() if name not in ("architectures", "model_type", "torch_dtype")}
  config = transformers.Qwen2Config(**card, attn_implementation="eager")
  return load_twin(transformers.Qwen2ForCausalLM(config), language_rules(decoder.config), decoder)


def vision_twin(tower):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
  from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

  config = tower.config
  theirs = Qwen2VLVisionConfig(
    depth=config.depth,
    embed_dim=config.width,
    hidden_size=config.out_width,
    mlp_ratio=config.mlp_dim // config.width,
    num_heads=config.num_heads,
    patch_size=config.patch,
    spatial_merge_size=config.merge,
    temporal_patch_size=config.temporal_patch,
    attn_implementation="eager",
  )
  return load_twin(Qwen2VisionTransformerPretrainedModel(theirs), vision_rules(config), tower)
