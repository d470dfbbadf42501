"""Weights in eight or four bits, for a base that is frozen (QLoRA, Dettmers et al., arXiv 2305.14314).

A block of inputs of one output shares a scale, the largest magnitude among them, as in bitsandbytes, whose blocks of 64
run along the rows of a matrix [outputs, inputs]; ours are stored [inputs, outputs]. `int8` divides the range evenly,
`nf4` at the quantiles of a normal distribution. Deviation: scales are float32 (4.5 bits a weight for nf4 with blocks of
64), not quantised once more; an nf4 byte holds the inputs i and i + 1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array
from omni_jax.core.errors import UserError

KINDS = ("int8", "nf4")

# arXiv 2305.14314, appendix E.
NF4 = np.array(
  [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
  ],
  np.float32,
)
_NF4_BORDERS = (NF4[1:] + NF4[:-1]) / 2
_INT8_LARGEST = 127


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantised:
  """A matrix in few bits, perhaps a stack of them."""

  values: Array  # int8 [..., inputs, outputs]; nf4: uint8 [..., inputs / 2, outputs], two codes in a byte
  scales: Array  # float32 [..., inputs / block, outputs]

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the matrix."""
    *stack, rows, outputs = self.values.shape
    return (*stack, rows * (1 if self.values.dtype == jnp.int8 else 2), outputs)

  def dequantise(self, dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
    """Returns the matrix in `dtype`."""
    numbers = self.values / jnp.float32(_INT8_LARGEST) if self.values.dtype == jnp.int8 else _from_nf4(self.values)
    *stack, number, outputs = self.scales.shape
    blocks = numbers.reshape(*stack, number, -1, outputs) * self.scales[..., None, :]
    return blocks.reshape(self.shape).astype(dtype)


def quantise(weight: Array, *, kind: str, block: int) -> Quantised:
  """Returns `weight` [..., inputs, outputs] in few bits.

  Args:
    weight: a matrix or a stack of them.
    kind: `int8` or `nf4`.
    block: inputs that share a scale.

  Raises:
    UserError: another kind, or inputs that are not whole blocks (and whole bytes).
  """
  inputs = weight.shape[-2]
  if kind not in KINDS or block < 1 or inputs % block or (kind == "nf4" and inputs % 2):
    raise UserError(
      f"{inputs} inputs as {kind!r} in blocks of {block}",
      where="quantised weight",
      rule=f"the kind is one of {', '.join(KINDS)}, and the inputs are whole blocks (an even number for nf4)",
      remedy="choose a block that divides the width and the inner width of the model",
    )
  wide = weight.astype(jnp.float32)
  blocks = wide.reshape(*wide.shape[:-2], inputs // block, block, wide.shape[-1])
  scales = jnp.abs(blocks).max(-2)
  relative = (blocks / jnp.where(scales > 0, scales, 1.0)[..., None, :]).reshape(wide.shape)
  values = jnp.round(relative * _INT8_LARGEST).astype(jnp.int8) if kind == "int8" else _to_nf4(relative)
  return Quantised(values, scales)


def _to_nf4(relative: Array) -> Array:
  codes = jnp.searchsorted(jnp.asarray(_NF4_BORDERS), relative).astype(jnp.uint8)
  return codes[..., 0::2, :] | (codes[..., 1::2, :] << 4)


def _from_nf4(values: Array) -> Array:
  # Each byte twice, shifted where it stands for the second time: unlike a concatenation this fuses with what follows.
  *stack, half, outputs = values.shape
  twice = jnp.broadcast_to(values[..., None, :], (*stack, half, 2, outputs))
  codes = ((twice >> jnp.array([[0], [4]], jnp.uint8)) & 15).reshape(*stack, 2 * half, outputs)
  # Halving by one bit at a time is faster than a table looked up, above all on a TPU.
  level = [jnp.float32(number) for number in NF4]
  for bit in range(4):
    is_set = (codes >> bit) & 1 == 1
    level = [jnp.where(is_set, odd, even) for even, odd in zip(level[0::2], level[1::2], strict=True)]
  return level[0]
