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
  (architecture,), family = card["architectures"], card["model_type"]
  card = {name: value for name, value in card.items() if name not in ("architectures", "model_type", "torch_dtype")}
  config_class = {"qwen2": transformers.Qwen2Config, "llama": transformers.LlamaConfig}[family]
  config = config_class(**card, attn_implementation="eager")
  return load_twin(getattr(transformers, architecture)(config), language_rules(decoder.config), decoder)


def experts_twin(decoder):
  """Returns transformers' DeepSeekMoE without latent attention, which has no head, with our weights."""
  torch = pytest.importorskip("torch")
  pytest.importorskip("transformers")
  from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
  from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2TextModel

  ours = decoder.config
  card = language_card(ours, dtype="float32")
  same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
  same += ("num_key_value_heads", "rms_norm_eps", "rope_theta", "n_routed_experts", "n_shared_experts")
  same += ("num_experts_per_tok", "moe_intermediate_size", "n_group", "topk_group")
  kinds = ["dense"] * ours.dense_depth + ["sparse"] * (ours.depth - ours.dense_depth)
  config = DeepseekOcr2TextConfig(
    **{name: card[name] for name in same}, mlp_layer_types=kinds, attn_implementation="eager"
  )
  config._experts_implementation = "eager"
  twin = DeepseekOcr2TextModel(config)
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(decoder).items()}
  tensors = export_tensors(language_rules(ours), leaves)
  del tensors["lm_head.weight"]
  twin.load_state_dict(
    {name: torch.from_numpy(np.array(tensor)) for name, tensor in fused_experts(tensors, ours).items()}
  )
  return twin.eval()


def fused_experts(tensors, config):
  """Returns the tensors named as the module holds them: gate and up of all experts in one array, no `model.`."""
  tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
  for layer in range(config.dense_depth, config.depth):
    name = f"layers.{layer}.mlp.experts"
    parts = {
      part: np.stack([tensors.pop(f"{name}.{e}.{part}_proj.weight") for e in range(config.experts.num_experts)])
      for part in ("gate", "up", "down")
    }
    tensors[f"{name}.gate_up_proj"] = np.concatenate([parts["gate"], parts["up"]], axis=1)
    tensors[f"{name}.down_proj"] = parts["down"]
  return tensors


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
