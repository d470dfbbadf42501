"""Rules of convolutions with weight norm, in either spelling of PyTorch: `weight_g` or `parametrizations`."""

import enum

from omni_jax.convert.table import Rule

_PLAIN = "output input taps -> taps input output"
_TRANSPOSED = "input output taps -> taps input output"
_PLAIN_GAIN = "output 1 1 -> 1 1 output"
_TRANSPOSED_GAIN = "input 1 1 -> 1 input 1"


class Spelling(enum.Enum):
  """The names of length and direction of a kernel, behind the name of its layer."""

  HOOK = ("weight_g", "weight_v")  # torch.nn.utils.weight_norm
  PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")


def convolution_rules(
  theirs: str,
  ours: str,
  *,
  normed: bool = True,
  bias: bool = True,
  transposed: bool = False,
  spelling: Spelling = Spelling.HOOK,
) -> list[Rule]:
  """Returns the rules of one `nn.weight_norm` layer; folded or plain kernels (`normed` False) are called `weight`."""
  pattern, gain_pattern = (_TRANSPOSED, _TRANSPOSED_GAIN) if transposed else (_PLAIN, _PLAIN_GAIN)
  if normed:
    gain, direction = spelling.value
    rules = [
      Rule(f"{theirs}.{gain}", (f"{ours}.weight.gain",), gain_pattern),
      Rule(f"{theirs}.{direction}", (f"{ours}.weight.direction",), pattern),
    ]
  else:
    rules = [Rule(f"{theirs}.weight", (f"{ours}.weight.whole",), pattern)]
  return [*rules, Rule(f"{theirs}.bias", (f"{ours}.bias",))] if bias else rules
