"""The decoder as Hugging Face `Qwen2ForCausalLM`, both ways: names, config and whole folders.

Their one token table is our text rows followed by our extra rows. Their file has no `lm_head` where it is tied.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert.folders import read_json, read_tensors, write_json, write_tensors
from omni_jax.convert.table import Rule, export_tensors, import_leaves
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import Decoder, DecoderConfig

_TRANSPOSED = "outputs inputs -> inputs outputs"


def language_rules(config: DecoderConfig) -> list[Rule]:
  """Returns the table of a decoder; paths are relative to it."""
  parts = ("text", "extra") if config.extra_vocab_size else ("text",)
  rules = [
    Rule("model.embed_tokens.weight", tuple(f"embed.{part}" for part in parts)),
    Rule("model.norm.weight", ("norm.scale",)),
    Rule("model.layers.{layer}.input_layernorm.weight", ("blocks.attention_norm.scale",)),
    Rule("model.layers.{layer}.post_attention_layernorm.weight", ("blocks.feed_forward_norm.scale",)),
  ]
  for theirs, ours in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output")):
    path = (f"blocks.attention.{ours}.weight",)
    rules.append(Rule(f"model.layers.{{layer}}.self_attn.{theirs}.weight", path, _TRANSPOSED))
    if config.qkv_bias and ours != "output":
      rules.append(Rule(f"model.layers.{{layer}}.self_attn.{theirs}.bias", (f"blocks.attention.{ours}.bias",)))
  for name in ("gate", "up", "down"):
    path = (f"blocks.feed_forward.{name}.weight",)
    rules.append(Rule(f"model.layers.{{layer}}.mlp.{name}_proj.weight", path, _TRANSPOSED))
  if not config.tied:
    rules.append(Rule("lm_head.weight", tuple(f"head.{part}" for part in parts)))
  return rules


def language_card(config: DecoderConfig, *, dtype: str, max_positions: int = 32_768) -> dict[str, Any]:
  """Returns the content of their config.json.

  Raises:
    UserError: the decoder has no query, key and value offsets, which their architecture always has.
  """
  if not config.qkv_bias:
    raise UserError(
      "qkv_bias is False",
      where="decoder config",
      rule="Qwen2ForCausalLM has offsets on query, key and value",
      remedy="train with qkv_bias=True to export in this format",
    )
  return {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": config.vocab_size + config.extra_vocab_size,
    "hidden_size": config.width,
    "num_hidden_layers": config.depth,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_dim,
    "hidden_act": "silu",
    "rms_norm_eps": config.norm_eps,
    "rope_theta": config.rope_theta,
    "tie_word_embeddings": config.tied,
    "max_position_embeddings": max_positions,
    "use_sliding_window": False,
    "attention_dropout": 0.0,
    "torch_dtype": dtype,
    "bos_token_id": None,
    "eos_token_id": None,
  }


def config_from_card(card: Mapping[str, Any], *, extra_vocab_size: int) -> DecoderConfig:
  """Returns our config from their config.json, the last `extra_vocab_size` rows being the extra table.

  Raises:
    UserError: another architecture, a rope scaling we lack, or a field missing.
  """
  rope = card.get("rope_parameters") or card.get("rope_scaling") or {}
  kind = rope.get("rope_type", rope.get("type", "default"))
  if card.get("model_type") != "qwen2" or kind != "default":
    raise UserError(
      f"model_type {card.get('model_type')!r} with rope {kind!r}",
      where="config.json",
      rule="model_type is qwen2 and the rope is not scaled",
      remedy="choose a Qwen2 or Qwen2.5 model",
    )
  wanted = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
  missing = [name for name in (*wanted, "intermediate_size", "rms_norm_eps") if name not in card]
  theta = card.get("rope_theta", rope.get("rope_theta"))
  if missing or theta is None:
    raise UserError(
      f"missing: {', '.join(missing) or 'rope_theta'}",
      where="config.json",
      rule="the file states every dimension",
      remedy="copy the file again",
    )
  return DecoderConfig(
    vocab_size=card["vocab_size"] - extra_vocab_size,
    extra_vocab_size=extra_vocab_size,
    width=card["hidden_size"],
    depth=card["num_hidden_layers"],
    num_heads=card["num_attention_heads"],
    num_kv_heads=card["num_key_value_heads"],
    head_dim=card.get("head_dim") or card["hidden_size"] // card["num_attention_heads"],
    mlp_dim=card["intermediate_size"],
    rope_theta=float(theta),
    norm_eps=card["rms_norm_eps"],
    qkv_bias=True,
    tied=card.get("tie_word_embeddings", False),
  )


def export_language(decoder: Decoder, folder: Path, *, dtype: str = "float32") -> None:
  """Writes `config.json` and `model.safetensors`, which `transformers.AutoModelForCausalLM` loads.

  Args:
    decoder: the model.
    folder: made if missing.
    dtype: `float32` or `bfloat16` of the written tensors.
  """
  folder.mkdir(parents=True, exist_ok=True)
  leaves = {path: np.asarray(leaf).astype(dtype_named(dtype)) for path, leaf in trees.flatten(decoder).items()}
  write_tensors(folder, export_tensors(language_rules(decoder.config), leaves))
  write_json(folder / "config.json", language_card(decoder.config, dtype=dtype))


def import_language(folder: Path, *, extra_vocab_size: int) -> Decoder:
  """Returns the decoder of a Hugging Face folder, in the dtype of its files."""
  config = config_from_card(read_json(folder / "config.json"), extra_vocab_size=extra_vocab_size)
  tensors = read_tensors(folder)
  if config.tied:
    tensors.pop("lm_head.weight", None)  # some writers store the tied table twice
  abstract = jax.eval_shape(lambda key: config.make(key=key), jax.random.key(0))
  shapes = {path: leaf.shape for path, leaf in trees.flatten(abstract).items()}
  leaves = import_leaves(language_rules(config), tensors, shapes=shapes)
  return trees.unflatten(abstract, {path: jax.numpy.asarray(leaf) for path, leaf in leaves.items()})


def dtype_named(name: str) -> np.dtype:
  """Returns the NumPy dtype `float32` or `bfloat16`."""
  if name not in ("float32", "bfloat16"):
    raise UserError(
      f"unknown dtype {name!r}", where="--dtype", rule="float32 or bfloat16", remedy="choose one of these"
    )
  return np.dtype(jax.numpy.dtype(name))
