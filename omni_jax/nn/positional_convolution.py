"""Positions from what is near: one wide convolution in groups (wav2vec 2.0, arXiv 2006.11477, and its successors).

Output frame t sums the inputs t - taps // 2 .. t + taps - 1 - taps // 2. The originals give this convolution a weight
norm, which here is folded into the weight (`convert.hubert`): one parameter instead of two, the same function.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.core.errors import UserError
from omni_jax.core.sharding import current_platform
from omni_jax.nn.parameter import constant, weight


class PositionalConvolution(nnx.Module):
  """A convolution that mixes within `groups` equal parts of the width, with bias; as many frames come out as go in."""

  def __init__(self, width: int, *, taps: int, groups: int, key: Key):
    if width % groups:
      raise UserError(
        f"width {width} in {groups} groups",
        where="positional convolution",
        rule="groups share the width equally",
        remedy="change the width or the groups",
      )
    part = width // groups
    self.weight = weight(key, (taps, part, groups, part), axes=(None, None, None, None), fan_in=taps * part)
    self.bias = constant(0.0, (width,), axes=(None,))

  @typed
  def __call__(self, x: Hidden) -> Hidden:
    """Returns one vector for each frame; frames past the end of a row must be zero."""
    return convolve_groups(x, self.weight[...].astype(x.dtype)) + self.bias[...].astype(x.dtype)


def convolve_groups(x: Array, kernel: Array) -> Array:
  """Returns `x` [B, T, D] through `kernel` [taps, inputs, group, outputs], in the form this machine is fastest with."""
  return by_group(x, kernel) if current_platform() == "cpu" else at_once(x, kernel)


def at_once(x: Array, kernel: Array) -> Array:
  """Returns `x` [B, T, D] through `kernel` [taps, inputs, group, outputs], as one grouped convolution."""
  taps, part, groups, _ = kernel.shape
  return _convolve(x, kernel.reshape(taps, part, -1), groups=groups)


def by_group(x: Array, kernel: Array) -> Array:
  """Returns the same, as one dense convolution for each group.

  XLA's CPU backend differentiates the grouped form 7 to 11 times slower (docs/decisions.md).
  """
  groups = kernel.shape[2]
  parts = jnp.split(x, groups, axis=-1)
  return jnp.concatenate([_convolve(part, kernel[:, :, group], groups=1) for group, part in enumerate(parts)], axis=-1)


def _convolve(x: Array, kernel: Array, *, groups: int) -> Array:
  taps = kernel.shape[0]
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1,),
    padding=((taps // 2, taps - 1 - taps // 2),),
    dimension_numbers=("NHC", "HIO", "NHC"),
    feature_group_count=groups,
  )
