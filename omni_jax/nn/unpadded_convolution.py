"""Strided convolution without padding, for encoders that read the waveform itself.

Frame t covers the inputs [stride t, stride t + taps), so the frames of a recording do not depend on what follows it in
a padded row.
"""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Key, typed
from omni_jax.nn.parameter import constant, weight


class UnpaddedConvolution(nnx.Module):
  """A dense convolution; `(T - taps) // stride + 1` frames come out. `bias` is None where there is none."""

  def __init__(self, in_width: int, out_width: int, *, taps: int, stride: int, bias: bool, key: Key):
    self.taps, self.stride = taps, stride
    self.weight = weight(key, (taps, in_width, out_width), axes=(None, "embed", "mlp"), fan_in=taps * in_width)
    self.bias = constant(0.0, (out_width,), axes=("mlp",)) if bias else None

  def num_frames(self, inputs: Any) -> Any:
    """Returns the frames of `inputs` inputs, a number or an array; fewer than `taps` have none."""
    frames = (inputs - self.taps) // self.stride + 1
    return frames * (frames > 0)

  @typed
  def __call__(self, x: Float[Array, "B T inputs"]) -> Float[Array, "B U outputs"]:
    """Returns the frames of `x`."""
    y = jax.lax.conv_general_dilated(
      x,
      self.weight[...].astype(x.dtype),
      window_strides=(self.stride,),
      padding="VALID",
      dimension_numbers=("NHC", "HIO", "NHC"),
    )
    return y if self.bias is None else y + self.bias[...].astype(x.dtype)
