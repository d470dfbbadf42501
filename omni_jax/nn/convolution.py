"""Convolution over time and the norm of a frame, for the speech modules.

Dense only: on a CPU a depthwise convolution of the same output costs about eight times as much. Whoever calls zeroes
the frames past the end first (`zero_padding`), so that a padded row gives what the row alone would.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Key
from omni_jax.nn.parameter import constant, weight

_EPS = 1e-5


class Convolution(nnx.Module):
  """A dense convolution with bias; `ceil(T / stride)` frames come out, frame t centred on input frame t * stride."""

  def __init__(self, in_width: int, out_width: int, *, taps: int, stride: int = 1, key: Key):
    assert taps % 2 == 1, f"taps {taps} must be odd, so that a frame has a centre"
    self.stride = stride
    self.weight = weight(key, (taps, in_width, out_width), axes=(None, "embed", "mlp"), fan_in=taps * in_width)
    self.bias = constant(0.0, (out_width,), axes=("mlp",))

  def __call__(self, x: Array) -> Array:
    """Returns frames [B, ceil(T / stride), out_width]."""
    side = self.weight.shape[0] // 2
    y = jax.lax.conv_general_dilated(
      x,
      self.weight[...],
      window_strides=(self.stride,),
      padding=((side, side),),
      dimension_numbers=("NHC", "HIO", "NHC"),
    )
    return y + self.bias[...]


class FrameNorm(nnx.Module):
  """Mean and variance of each frame over its channels (LayerNorm), with a learned scale and shift."""

  eps = _EPS

  def __init__(self, width: int):
    self.scale = constant(1.0, (width,), axes=(None,))
    self.bias = constant(0.0, (width,), axes=(None,))

  def __call__(self, x: Array) -> Array:
    """Returns frames of the same shape."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + _EPS) * self.scale[...] + self.bias[...]


class ResidualConvolution(nnx.Module):
  """`x + convolution(gelu(norm(x)))` on the valid frames."""

  def __init__(self, width: int, *, taps: int, key: Key):
    self.norm = FrameNorm(width)
    self.convolution = Convolution(width, width, taps=taps, key=key)

  def __call__(self, x: Array, lengths: Array) -> Array:
    """Returns frames of the same shape; `lengths` are the valid frames of each row."""
    return x + self.convolution(zero_padding(jax.nn.gelu(self.norm(x)), lengths))


def zero_padding(x: Array, lengths: Array) -> Array:
  """Returns `x` [B, T, ...] with the frames at and after `lengths` [B] set to zero."""
  valid = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
  return jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)), x, 0.0)


def halve(lengths: Array) -> Array:
  """Returns the frames left by a convolution of stride two."""
  return -(-lengths // 2)
