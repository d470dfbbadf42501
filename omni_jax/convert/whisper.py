"""Whisper's encoder under transformers' names, and Mini-Omni's adapter under its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from omni_jax.convert.table import Rule
from omni_jax.convert.tensors import Held, Tensors, as_tensors
from omni_jax.core.errors import UserError
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.whisper import WhisperConfig

_TRANSPOSED = "outputs inputs -> inputs outputs"
_CONVOLUTION = "outputs inputs taps -> taps inputs outputs"

# Before every name of the encoder: in files of a whole Whisper, of one without its head, of the encoder alone.
WHOLE_PREFIX = "model.encoder."
_PREFIXES = (WHOLE_PREFIX, "encoder.", "")
# Ours -> theirs in config.json.
_SIZES = {
  "width": "d_model",
  "depth": "encoder_layers",
  "num_heads": "encoder_attention_heads",
  "mlp_dim": "encoder_ffn_dim",
}
_NORM_EPS = 1e-5

# Names of the adapter in lit_model.pth.
MINI_OMNI_ADAPTER_RULES = (
  Rule("whisper_adapter.fc_1.weight", ("gate.weight",), _TRANSPOSED),
  Rule("whisper_adapter.fc_2.weight", ("up.weight",), _TRANSPOSED),
  Rule("whisper_adapter.proj.weight", ("down.weight",), _TRANSPOSED),
)


def read_config(card: Mapping[str, Any], *, where: object) -> WhisperConfig:
  """Returns the config of the encoder in a Whisper's config.json.

  Raises:
    UserError: it is not of a Whisper, or lacks a size.
  """
  missing = [name for name in (*_SIZES.values(), "num_mel_bins", "max_source_positions") if name not in card]
  if missing or card.get("model_type") != "whisper":
    raise UserError(
      f"no {', '.join(missing)}" if missing else f"model_type {card.get('model_type')!r}",
      where=where,
      rule="config.json is a Whisper's and names the sizes of its encoder",
      remedy="take the folder of a Whisper in transformers' format",
    )
  sizes = {ours: card[theirs] for ours, theirs in _SIZES.items()}
  encoder = EncoderConfig(**sizes, norm_eps=_NORM_EPS, norm_first=True, key_bias=False)
  return WhisperConfig(num_mels=card["num_mel_bins"], num_positions=card["max_source_positions"], encoder=encoder)


def write_config(config: WhisperConfig) -> dict[str, Any]:
  """Returns what config.json says of the encoder; of the decoder, which is not ours, nothing."""
  sizes = {theirs: getattr(config.encoder, ours) for ours, theirs in _SIZES.items()}
  rest = {"num_mel_bins": config.num_mels, "max_source_positions": config.num_positions}
  return {"model_type": "whisper", **sizes, **rest}


def encoder_tensors(tensors: Mapping[str, np.ndarray]) -> Tensors:
  """Returns the encoder's tensors by the names of `whisper_rules`, from a file of a whole Whisper or of the encoder.

  Raises:
    UserError: there is no encoder of a Whisper in it.
  """
  given = as_tensors(tensors)
  for prefix in _PREFIXES:
    if f"{prefix}conv1.weight" in given:
      found = Held({name.removeprefix(prefix): given[name] for name in given if name.startswith(prefix)})
      found.origin = given.origin
      return found
  raise UserError(
    "no conv1.weight",
    where=given.origin,
    rule=f"the encoder's names begin with {', '.join(repr(prefix) for prefix in _PREFIXES)}",
    remedy="check that the file holds a Whisper in transformers' format",
  )


def whisper_rules() -> list[Rule]:
  """Returns the table of an encoder of any size; keys have no offset."""
  rules = [Rule("embed_positions.weight", ("positions",))]
  for theirs, ours in (("conv1", "first"), ("conv2", "second")):
    rules.append(Rule(f"{theirs}.weight", (f"{ours}.weight",), _CONVOLUTION))
    rules.append(Rule(f"{theirs}.bias", (f"{ours}.bias",)))
  layer = "layers.{layer}"
  for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
    rules += _linear(f"{layer}.self_attn.{theirs}_proj", f"blocks.attention.{ours}", bias=ours != "key")
  rules += _norm(f"{layer}.self_attn_layer_norm", "blocks.attention_norm")
  rules += _linear(f"{layer}.fc1", "blocks.feed_forward.up", bias=True)
  rules += _linear(f"{layer}.fc2", "blocks.feed_forward.down", bias=True)
  rules += _norm(f"{layer}.final_layer_norm", "blocks.feed_forward_norm")
  return rules + _norm("layer_norm", "norm")


def _linear(theirs: str, ours: str, *, bias: bool) -> list[Rule]:
  rules = [Rule(f"{theirs}.weight", (f"{ours}.weight",), _TRANSPOSED), Rule(f"{theirs}.bias", (f"{ours}.bias",))]
  return rules if bias else rules[:1]


def _norm(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.scale",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))]
