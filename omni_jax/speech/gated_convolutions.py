"""Gated convolutions over frames, as in WaveNet (arXiv 1609.03499) without its causality: what the flow and the
posterior encoder of VITS are made of.

    x --convolution to twice the channels, + condition--> tanh * sigmoid --1 x 1--> added to x | added to the result

The last layer adds to the result only. Kernels are length times direction in training (`nn.weight_norm`). Reference
files: VITS `modules.py` (`WN`), transformers `modeling_vits.py` (`VitsWaveNet`).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key
from omni_jax.nn.weight_norm import Kernel, NormedConvolution

Valid = Float[Array, "B T"]
Condition = Float[Array, "B G"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedConvolutionsConfig:
  """Sizes of a stack.

  Attributes:
    width: channels in and out.
    taps: of the gated convolutions.
    depth: layers.
    dilation: of layer n is this to the power n.
    condition: width of a global condition; 0 for none.
    normed: whether kernels are stored as length and direction, for training, or folded.
  """

  width: int
  taps: int
  depth: int
  dilation: int = 1
  condition: int = 0
  normed: bool = True

  @property
  def context(self) -> int:
    """Frames on each side of a frame that its output depends on."""
    return sum(self.taps // 2 * self.dilation**layer for layer in range(self.depth))

  def make(self, *, key: Key) -> "GatedConvolutions":
    """Returns a new stack."""
    return GatedConvolutions(self, key=key)


class GatedConvolutions(nnx.Module):
  """The stack; frames where `valid` is zero count as zero in every layer."""

  def __init__(self, config: GatedConvolutionsConfig, *, key: Key):
    self.config = config
    width, normed, one = config.width, config.normed, Kernel(taps=1)
    keys = iter(jax.random.split(key, 1 + 2 * config.depth))
    outputs, first = 2 * width * config.depth, next(keys)
    self.condition = (
      NormedConvolution(config.condition, outputs, kernel=one, normed=normed, key=first) if config.condition else None
    )
    kernels = (Kernel(taps=config.taps, dilation=config.dilation**layer) for layer in range(config.depth))
    self.gated = nnx.List(
      NormedConvolution(width, 2 * width, kernel=kernel, normed=normed, key=next(keys)) for kernel in kernels
    )
    self.mixed = nnx.List(
      NormedConvolution(width, width if layer == config.depth - 1 else 2 * width, kernel=one, normed=normed, key=key)
      for layer, key in enumerate(jax.random.split(next(keys), config.depth))
    )

  def __call__(self, x: Hidden, valid: Valid, condition: Condition | None) -> Hidden:
    """Returns frames of the same shape, zero where `valid` is; without a condition its layer is left out."""
    mask, offsets = valid[..., None], None
    if condition is not None:
      assert self.condition is not None, "a condition is given where the config has one"
      offsets = jnp.split(self.condition(condition[:, None]), self.config.depth, axis=-1)
    result = jnp.zeros_like(x)
    for layer, (gated, mixed) in enumerate(zip(self.gated, self.mixed, strict=True)):
      y = gated(x) if offsets is None else gated(x) + offsets[layer]
      signal, gate = jnp.split(y, 2, axis=-1)
      y = mixed(jnp.tanh(signal) * jax.nn.sigmoid(gate))
      if layer < self.config.depth - 1:
        more, y = jnp.split(y, 2, axis=-1)
        x = (x + more) * mask
      result = result + y
    return result * mask
