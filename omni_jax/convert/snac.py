"""SNAC as the `snac` package keeps it: config.json and the tensors of its state dict, both ways."""

from collections.abc import Mapping
from typing import Any

from omni_jax.convert.table import Rule, prefixed
from omni_jax.convert.weight_norm import Spelling, convolution_rules
from omni_jax.core.errors import UserError
from omni_jax.speech.snac import SNACConfig

# Their name -> ours; lists become tuples.
_FIELDS = {
  "sampling_rate": "sample_rate",
  "encoder_dim": "encoder_width",
  "encoder_rates": "encoder_rates",
  "decoder_dim": "decoder_width",
  "decoder_rates": "decoder_rates",
  "codebook_size": "codebook_size",
  "codebook_dim": "code_width",
  "vq_strides": "strides",
  "noise": "noise",
  "depthwise": "depthwise",
}
_NUM_UNITS = 3


def snac_rules(config: SNACConfig) -> list[Rule]:
  """Returns the table of the codec; a folded one has plain weights."""
  encoder = _convolution(config, "block.0", "first")
  last = len(config.encoder_rates)
  for stage in range(last):
    block = f"block.{stage + 1}.block"
    encoder += _units(config, block, f"stages.{stage}", first=0)
    encoder += _snake(f"{block}.{_NUM_UNITS}", f"stages.{stage}.snake")
    encoder += _convolution(config, f"{block}.{_NUM_UNITS + 1}", f"stages.{stage}.down")
  encoder += _convolution(config, f"block.{last + 1}", "last")
  quantizers = []
  for level in range(len(config.strides)):
    theirs, ours = f"quantizers.{level}", f"{level}"
    quantizers += _convolution(config, f"{theirs}.in_proj", f"{ours}.input")
    quantizers += _convolution(config, f"{theirs}.out_proj", f"{ours}.output")
    quantizers.append(Rule(f"{theirs}.codebook.weight", (f"{ours}.codebook",)))
  return (
    prefixed(encoder, theirs="encoder.", ours="encoder.")
    + prefixed(quantizers, theirs="quantizer.", ours="quantizers.")
    + prefixed(_decoder_rules(config), theirs="decoder.model.", ours="decoder.")
  )


def read_config(values: Mapping[str, Any], *, where: object = "config.json") -> SNACConfig:
  """Returns our config of theirs.

  Raises:
    UserError: a field is missing, or the codec has attention or a width of its own for latents.
  """
  missing = [name for name in _FIELDS if name not in values]
  if missing:
    raise _unreadable(f"no {', '.join(missing)}", where, "the config names every size")
  if values.get("attn_window_size"):
    raise _unreadable(f"attn_window_size {values['attn_window_size']}", where, "the codec has no attention")
  own: dict[str, Any] = {name: values[theirs] for theirs, name in _FIELDS.items()}
  for name, value in own.items():
    own[name] = tuple(value) if isinstance(value, list) else value
  config = SNACConfig(**own)
  if values.get("latent_dim") not in (None, config.latent_width):
    raise _unreadable(f"latent_dim {values['latent_dim']}", where, "latents are as wide as the encoder's last stage")
  return config


def write_config(config: SNACConfig) -> dict[str, Any]:
  """Returns their config of ours; `read_config` gives ours back."""
  values = {theirs: getattr(config, ours) for theirs, ours in _FIELDS.items()}
  values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
  return values | {"attn_window_size": None, "latent_dim": config.latent_width}


def _decoder_rules(config: SNACConfig) -> list[Rule]:
  rules = _convolution(config, "0", "first")
  start = 1
  if config.depthwise:
    rules += _convolution(config, "1", "widen")
    start = 2
  for stage in range(len(config.decoder_rates)):
    block, ours = f"{start + stage}.block", f"stages.{stage}"
    rules += _snake(f"{block}.0", f"{ours}.snake")
    rules += _convolution(config, f"{block}.1", f"{ours}.up", transposed=True)
    if config.noise:
      rules += _convolution(config, f"{block}.2.linear", f"{ours}.noise", bias=False)
    rules += _units(config, block, ours, first=3 if config.noise else 2)
  end = start + len(config.decoder_rates)
  return rules + _snake(f"{end}", "snake") + _convolution(config, f"{end + 1}", "last")


def _units(config: SNACConfig, theirs: str, ours: str, *, first: int) -> list[Rule]:
  rules = []
  for unit in range(_NUM_UNITS):
    block, own = f"{theirs}.{first + unit}.block", f"{ours}.units.{unit}"
    rules += _snake(f"{block}.0", f"{own}.before") + _convolution(config, f"{block}.1", f"{own}.dilated")
    rules += _snake(f"{block}.2", f"{own}.between") + _convolution(config, f"{block}.3", f"{own}.pointwise")
  return rules


def _snake(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.alpha", (f"{ours}.alpha",), "1 channel 1 -> channel")]


def _convolution(
  config: SNACConfig, theirs: str, ours: str, *, bias: bool = True, transposed: bool = False
) -> list[Rule]:
  return convolution_rules(
    theirs, ours, normed=config.normed, bias=bias, transposed=transposed, spelling=Spelling.PARAMETRIZED
  )


def _unreadable(what: str, where: object, rule: str) -> UserError:
  return UserError(what, where=where, rule=rule, remedy="take the config.json of snac_24khz")
