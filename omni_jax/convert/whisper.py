"""Whisper's encoder under transformers' names, and Mini-Omni's adapter under its own."""

from collections.abc import Mapping

import numpy as np

from omni_jax.convert.table import Rule
from omni_jax.convert.tensors import Held, Tensors, as_tensors
from omni_jax.core.errors import UserError

_TRANSPOSED = "outputs inputs -> inputs outputs"
_CONVOLUTION = "outputs inputs taps -> taps inputs outputs"

# Before every name of the encoder: in files of a whole Whisper, of one without its head, of the encoder alone.
_PREFIXES = ("model.encoder.", "encoder.", "")

# Names of the adapter in lit_model.pth.
MINI_OMNI_ADAPTER_RULES = (
  Rule("whisper_adapter.fc_1.weight", ("gate.weight",), _TRANSPOSED),
  Rule("whisper_adapter.fc_2.weight", ("up.weight",), _TRANSPOSED),
  Rule("whisper_adapter.proj.weight", ("down.weight",), _TRANSPOSED),
)


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
