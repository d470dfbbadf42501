"""A decoder's config.json, both ways: `Qwen2ForCausalLM`, `LlamaForCausalLM` and DeepSeek-V2 without latent attention.

`transformers` loads folders of the first two. Its own DeepSeek-V2 class has latent attention only; folders of the third
are read by the modelling file that DeepSeek-VL2 and EMOVA bring along.
"""

from collections.abc import Mapping
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.moe import ExpertsConfig
from omni_jax.nn.rotary import Llama3Scaling

# Their `model_type`, also as EMOVA's origin format names it.
_FAMILIES = {
  "qwen2": "qwen2",
  "emova_qwen2": "qwen2",
  "llama": "llama",
  "emova_llama": "llama",
  "deepseek_v2": "deepseek_v2",
  "emova_deepseekv2": "deepseek_v2",
}
_ARCHITECTURES = {
  "qwen2": "Qwen2ForCausalLM",
  "llama": "LlamaForCausalLM",
  "deepseek_v2": "DeepseekV2ForCausalLM",
}
# Their name -> our name of a field that is a number in both.
_NUMBERS = {
  "hidden_size": "width",
  "num_hidden_layers": "depth",
  "num_attention_heads": "num_heads",
  "intermediate_size": "mlp_dim",
  "rms_norm_eps": "norm_eps",
}
_EXPERT_NUMBERS = {
  "n_routed_experts": "num_experts",
  "num_experts_per_tok": "num_chosen",
  "n_shared_experts": "num_shared",
  "moe_intermediate_size": "mlp_dim",
}
# What our experts are, in their words; the file's own value or, where it has none, their default must agree.
_EXPERT_FACTS = {
  "topk_method": "greedy",
  "scoring_func": "softmax",
  "norm_topk_prob": False,
  "routed_scaling_factor": 1.0,
  "seq_aux": True,
  "moe_layer_freq": 1,
}


def family_of(config: DecoderConfig) -> str:
  """Returns `qwen2`, `llama` or `deepseek_v2`: the architecture that has what this decoder has.

  Raises:
    UserError: none has it.
  """
  if config.experts is not None:
    family, lacks = "deepseek_v2", {"qkv_bias": config.qkv_bias, "window": config.window is not None}
  elif config.qkv_bias:
    family, lacks = "qwen2", {}
  else:
    family, lacks = "llama", {"window": config.window is not None}
  if wrong := [name for name, present in lacks.items() if present]:
    raise UserError(
      f"{', '.join(wrong)} in a decoder of the {family} kind",
      where="decoder config",
      rule=f"{_ARCHITECTURES[family]} has no {' and no '.join(wrong)}",
      remedy="train without it to export in this format",
    )
  return family


def language_card(config: DecoderConfig, *, dtype: str, max_positions: int = 32_768) -> dict[str, Any]:
  """Returns the content of their config.json.

  Args:
    config: of the decoder.
    dtype: of the tensors, `float32` or `bfloat16`.
    max_positions: that the tokenizer and caches of their side may plan for.

  Raises:
    UserError: no architecture of theirs has what the decoder has.
  """
  family = family_of(config)
  card = {
    "architectures": [_ARCHITECTURES[family]],
    "model_type": family,
    "vocab_size": config.vocab_size + config.extra_vocab_size,
    **{theirs: getattr(config, ours) for theirs, ours in _NUMBERS.items()},
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "hidden_act": "silu",
    "rope_theta": config.rope_theta,
    "rope_scaling": _rope_card(config.rope_scaling),
    "tie_word_embeddings": config.tied,
    "max_position_embeddings": max_positions,
    "attention_dropout": 0.0,
    "torch_dtype": dtype,
    "bos_token_id": None,
    "eos_token_id": None,
  }
  if card["rope_scaling"] is None:
    del card["rope_scaling"]
  if family == "qwen2":
    card["use_sliding_window"] = config.window is not None
    if config.window is not None:
      card |= {"sliding_window": config.window, "max_window_layers": config.full_depth}
    return card
  card |= {"attention_bias": False, "mlp_bias": False}
  if config.experts is None:
    return card
  return card | {
    **{theirs: getattr(config.experts, ours) for theirs, ours in _EXPERT_NUMBERS.items()},
    **_EXPERT_FACTS,
    "first_k_dense_replace": config.dense_depth,
    "aux_loss_alpha": config.experts.balance_weight,
    "use_mla": False,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": None,
    "kv_lora_rank": None,
    "qk_nope_head_dim": 0,
    "qk_rope_head_dim": 0,
    "v_head_dim": 0,
  }


def config_from_card(card: Mapping[str, Any], *, extra_vocab_size: int) -> DecoderConfig:
  """Returns our config from their config.json, the last `extra_vocab_size` rows being the extra table.

  Raises:
    UserError: another architecture, a rope scaling we lack, experts of another kind, or a field missing.
  """
  family = _FAMILIES.get(card.get("model_type", ""))
  if family is None:
    raise UserError(
      f"model_type {card.get('model_type')!r}",
      where="config.json",
      rule=f"model_type is one of {', '.join(_FAMILIES)}",
      remedy="choose a Qwen2, Qwen2.5, Llama or DeepSeekMoE model",
    )
  _check_layers(card, family)
  required: list[str] = ["vocab_size", *_NUMBERS, *(_EXPERT_NUMBERS if family == "deepseek_v2" else [])]
  rope = card.get("rope_parameters") or card.get("rope_scaling") or {}
  # LLaMA and DeepSeek files of before 2024 leave the base out where it is their default.
  theta = card.get("rope_theta", rope.get("rope_theta", None if family == "qwen2" else 10_000.0))
  missing = [name for name in required if name not in card] + (["rope_theta"] if theta is None else [])
  if theta is None or missing:
    raise UserError(
      f"missing: {', '.join(missing)}",
      where="config.json",
      rule="the file states every dimension",
      remedy="copy the file again",
    )
  windowed = family == "qwen2" and card.get("use_sliding_window", False)
  window = card.get("sliding_window") if windowed else None
  return DecoderConfig(
    vocab_size=card["vocab_size"] - extra_vocab_size,
    extra_vocab_size=extra_vocab_size,
    **{ours: card[theirs] for theirs, ours in _NUMBERS.items()},
    num_kv_heads=card.get("num_key_value_heads") or card["num_attention_heads"],
    head_dim=card.get("head_dim") or card["hidden_size"] // card["num_attention_heads"],
    rope_theta=float(theta),
    qkv_bias=family == "qwen2",
    tied=card.get("tie_word_embeddings", False),
    rope_scaling=_scaling_from(rope),
    window=window,
    full_depth=0 if window is None else min(card.get("max_window_layers", 28), card["num_hidden_layers"]),
    experts=_experts_from(card) if family == "deepseek_v2" else None,
    dense_depth=card.get("first_k_dense_replace", 0) if family == "deepseek_v2" else 0,
  )


def _rope_card(scaling: Llama3Scaling | None) -> dict[str, Any] | None:
  if scaling is None:
    return None
  return {
    "rope_type": "llama3",
    "factor": scaling.factor,
    "low_freq_factor": scaling.low_frequency_factor,
    "high_freq_factor": scaling.high_frequency_factor,
    "original_max_position_embeddings": scaling.original_positions,
  }


def _scaling_from(rope: Mapping[str, Any]) -> Llama3Scaling | None:
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind == "default":
    return None
  names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
  if kind != "llama3" or any(name not in rope for name in names):
    raise UserError(
      f"rope {dict(rope)}",
      where="config.json",
      rule=f"the rope is not scaled, or of type llama3 with {', '.join(names)}",
      remedy="choose another model",
    )
  factor, low, high, original = (rope[name] for name in names)
  return Llama3Scaling(
    factor=float(factor), low_frequency_factor=float(low), high_frequency_factor=float(high),
    original_positions=original,
  )  # fmt: skip


def _experts_from(card: Mapping[str, Any]) -> ExpertsConfig:
  numbers = {ours: card[theirs] for theirs, ours in _EXPERT_NUMBERS.items()}
  return ExpertsConfig(**numbers, balance_weight=card.get("aux_loss_alpha", 0.001))


def _check_layers(card: Mapping[str, Any], family: str) -> None:
  """Refuses a file whose layers compute something that ours do not."""
  facts: dict[str, Any] = {"hidden_act": "silu"}
  if family != "qwen2":
    facts |= {"attention_bias": False, "mlp_bias": False}
  if family == "deepseek_v2":
    facts |= _EXPERT_FACTS
  wrong = {name: card[name] for name, fact in facts.items() if card.get(name, fact) != fact}
  if family == "deepseek_v2" and card.get("use_mla", True):
    wrong["use_mla"] = card.get("use_mla", True)
    facts["use_mla"] = False
  if wrong:
    raise UserError(
      ", ".join(f"{name} {value!r}" for name, value in wrong.items()),
      where="config.json",
      rule=", ".join(f"{name} is {facts[name]!r}" for name in wrong),
      remedy="choose another model",
    )
