"""EMOVA's speech-to-unit model under the 239 names of its files, both ways.

Three spellings are read: the Lightning checkpoint's (the original module's own), that of the Hugging Face tokenizer
`emova_speech_tokenizer_hf`, which puts `encoder.` in front, and that of newer PyTorch, which stores weight norm as
`parametrizations.weight.original0` (size) and `original1` (direction).

Five of the entries are no parameters: the window, the mel filters, the levels and the basis of the quantiser, which are
checked against ours, and the vector that masks frames in pre-training. They are kept beside the leaves, so that what
was read can be written again bit for bit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from omni_jax.convert.table import Rule, export_tensors, import_leaves, prefixed
from omni_jax.convert.tensors import Without, as_tensors
from omni_jax.core.errors import UserError
from omni_jax.speech.mel import filterbank
from omni_jax.speech.speech_to_unit import SpeechToUnitConfig
from omni_jax.speech.spiral_features import symmetric_hann

HUGGING_FACE_PREFIX = "encoder."
_WINDOW, _FILTERS = "encoder.wav2spec.featurizer.window", "encoder.wav2spec.featurizer.fb"
_LEVELS, _BASIS, _MASK = "quantizer._levels_np", "quantizer._basis", "encoder.mask_emb"
_BLOCKS = "encoder.feature_encoder.block_modules."
_PROBE = "probe."  # of ours
_MASK_DEVIATION = 0.01  # of theirs
_TOLERANCE = 1e-6  # of window and filters, whose values are below 1

_CONVOLUTION = "outputs inputs taps -> taps inputs outputs"
_MATRIX = "outputs inputs -> inputs outputs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spelling:
  """How a file names what all of them hold.

  Attributes:
    prefix: before every name.
    parametrized: whether weight norm has PyTorch's newer names.
  """

  prefix: str = ""
  parametrized: bool = False

  @property
  def weight_norm(self) -> tuple[str, str]:
    """The names of size and direction."""
    newer = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    return newer if self.parametrized else ("weight_g", "weight_v")


def find_spelling(names: Any) -> Spelling:
  """Returns the spelling of a file with these names."""
  names = list(names)
  return Spelling(
    prefix=HUGGING_FACE_PREFIX if any(name.startswith(HUGGING_FACE_PREFIX + _BLOCKS) for name in names) else "",
    parametrized=any(".parametrizations." in name for name in names),
  )


def speech_to_unit_rules(config: SpeechToUnitConfig, spelling: Spelling = Spelling()) -> list[Rule]:
  """Returns the table of all parameters, with paths relative to the model."""
  rules, number = [], 0
  for place, stage in enumerate(config.encoder.stages):
    for index in range(len(stage.convolutions)):
      theirs, ours = f"{_BLOCKS}{number}.", f"encoder.stages.{place}.convolutions.{index}."
      rules += _convolution(f"{theirs}conv.conv", ours.removesuffix("."))
      rules += _norm(f"{theirs}norm", f"{ours}norm")
      number += 1
    rules += prefixed(_transformer(spelling), theirs=f"{_BLOCKS}{number}.", ours=f"encoder.stages.{place}.")
    number += 1
  rules += _linear("pre_quant", "bottleneck")
  for index in range(config.reader_depth):
    rules += _convolution(f"decoder.conv_layers.{index}.conv.conv", f"reader.layers.{index}")
  rules += [
    Rule("decoder.decoder_layers.0.weight", ("reader.head.weight",), "outputs inputs 1 -> inputs outputs"),
    Rule("decoder.decoder_layers.0.bias", ("reader.head.bias",)),
  ]
  return prefixed(rules, theirs=spelling.prefix)


def constants(config: SpeechToUnitConfig) -> dict[str, np.ndarray]:
  """Returns the five entries that are no parameters; the mask is our own draw, since theirs is only in their files."""
  quantizer = config.quantizer
  mask = np.random.default_rng(0).normal(scale=_MASK_DEVIATION, size=config.mel.num_mels)
  return {
    _WINDOW: symmetric_hann(config.mel.window_samples),
    _FILTERS: np.ascontiguousarray(filterbank(config.mel).T[None]),
    _LEVELS: np.asarray(quantizer.levels, np.float32),
    _BASIS: quantizer.basis.astype(np.float32),
    _MASK: mask.astype(np.float32),
  }


def import_speech_to_unit(
  config: SpeechToUnitConfig,
  tensors: Mapping[str, np.ndarray],
  *,
  shapes: Mapping[str, tuple[int, ...]],
  places: Mapping[str, jax.sharding.Sharding] | None = None,
) -> tuple[dict[str, jax.Array], dict[str, np.ndarray]]:
  """Returns our leaves by dotted path, and what the file holds beside parameters, under the original's names.

  Args:
    config: of the model.
    tensors: of a file in any of the spellings; in a Lightning checkpoint they are under `state_dict`.
    shapes: of every leaf of our model.
    places: where each leaf lives; on the first device by default.

  Raises:
    UserError: a name, a shape or a value does not fit, all listed; or a constant is not ours.
  """
  given = as_tensors(tensors)
  spelling = find_spelling(given)
  beside = {name: spelling.prefix + name for name in constants(config)}
  held = {name: np.asarray(given[theirs]) for name, theirs in beside.items() if theirs in given}
  _check_constants(config, held, origin=given.origin)
  # A Hugging Face file also holds the unit-to-speech model (`decoder.`) and the styles.
  others = [name for name in given if not name.startswith(spelling.prefix)]
  parameters = Without(given, [*beside.values(), *others])
  rules = speech_to_unit_rules(config, spelling)
  return import_leaves(rules, parameters, shapes=shapes, places=places), held


def export_speech_to_unit(
  config: SpeechToUnitConfig,
  leaves: Mapping[str, Any],
  *,
  beside: Mapping[str, np.ndarray] | None = None,
  spelling: Spelling = Spelling(),
) -> dict[str, np.ndarray]:
  """Returns all 239 entries by their names: the leaves, and `beside` them what an import found, or our own constants.

  The probe of a model trained from nothing is left out, since only training reads it.

  Raises:
    UserError: rules and leaves name different paths.
  """
  known = {**constants(config), **(beside or {})}
  tensors = {spelling.prefix + name: array for name, array in known.items()}
  kept = {path: leaf for path, leaf in leaves.items() if not path.startswith(_PROBE)}
  return tensors | export_tensors(speech_to_unit_rules(config, spelling), kept)


def _check_constants(config: SpeechToUnitConfig, held: Mapping[str, np.ndarray], *, origin: Any) -> None:
  """Raises a UserError if the file's features or quantiser are not those of the config; the mask may be any."""
  for name, ours in constants(config).items():
    theirs = held.get(name)
    if theirs is None:
      continue
    fits = theirs.shape == ours.shape and (name == _MASK or np.allclose(theirs, ours, rtol=0, atol=_TOLERANCE))
    if not fits or not np.isfinite(theirs).all():
      raise UserError(
        f"{name} of shape {theirs.shape} is not ours, of shape {ours.shape}",
        where=origin,
        rule="window, mel filters, levels and basis are those of the config",
        remedy="check that the file belongs to this config",
      )


def _transformer(spelling: Spelling) -> list[Rule]:
  size, direction = spelling.weight_norm
  rules = [
    Rule("pos_conv.0.bias", ("position.bias",)),
    Rule(f"pos_conv.0.{size}", ("position.size",), "1 1 taps -> taps"),
    Rule(f"pos_conv.0.{direction}", ("position.direction",), _CONVOLUTION),
  ]
  pairs = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output"))
  for theirs, ours in pairs:
    rules += _linear(f"layers.{{layer}}.self_attn.{theirs}", f"blocks.attention.{ours}")
  rules += _norm("layers.{layer}.self_attn_layer_norm", "blocks.attention_norm")
  rules += _linear("layers.{layer}.fc1", "blocks.up") + _linear("layers.{layer}.fc2", "blocks.down")
  rules += _norm("layers.{layer}.final_layer_norm", "blocks.feed_forward_norm")
  return rules + _norm("layer_norm", "norm")


def _convolution(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.weight",), _CONVOLUTION), Rule(f"{theirs}.bias", (f"{ours}.bias",))]


def _linear(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.weight",), _MATRIX), Rule(f"{theirs}.bias", (f"{ours}.bias",))]


def _norm(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.scale",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))]
