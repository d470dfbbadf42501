"""Convolutions over time whose kernels are a length times a direction (Salimans and Kingma, arXiv 1602.07868).

Vocoders train in this form and run with both folded into one array (`fold`). Frames are [B, T, C] and kernels
[taps, inputs, outputs]. The length belongs to each output, in a transposed convolution to each *input*, as in
PyTorch's `weight_norm` with `dim=0`. Depthwise kernels are sums of shifted products (`channelwise`): XLA's CPU
convolution of one channel a group is many times slower.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core import trees
from omni_jax.core.arrays import Array, Hidden, Key
from omni_jax.nn.channelwise import depthwise
from omni_jax.nn.parameter import constant, weight

_LAYOUT = ("NHC", "HIO", "NHC")
# The variance of PyTorch's default draw is 1 / (3 * inputs of an output).
_SPREAD = 3
_SMALLEST = 1e-24  # of a squared length: a kernel of zeros stays zero and its gradient finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
  """How a convolution moves over time.

  Attributes:
    taps: frames that one output sums.
    stride: frames from one output to the next; of a transposed convolution, outputs for one input.
    dilation: frames between taps.
    groups: channels are split into as many parts that do not see each other.
    padding: zeros on each side; None keeps the number of frames.
  """

  taps: int
  stride: int = 1
  dilation: int = 1
  groups: int = 1
  padding: int | None = None

  def __post_init__(self):
    assert self.padding is not None or self.taps % 2, f"taps {self.taps} have no centre, so the padding must be given"

  @property
  def sides(self) -> int:
    """Zeros on each side."""
    return self.dilation * (self.taps // 2) if self.padding is None else self.padding


class NormedWeight(nnx.Module):
  """`gain * direction / |direction|`, or `whole`: the same as one array, or a kernel that never had two parts."""

  def __init__(
    self, shape: tuple[int, ...], *, axes: tuple[str | None, ...], fan_in: int, key: Key, along: int = -1, normed: bool
  ):
    drawn = weight(key, shape, axes=axes, fan_in=_SPREAD * fan_in)
    if not normed:
      self.whole = drawn
      return
    self.direction = drawn
    sizes = [1] * len(shape)
    sizes[along] = shape[along]
    names: list[str | None] = [None] * len(shape)
    names[along] = axes[along]
    self.gain = constant(1.0, tuple(sizes), axes=tuple(names))
    self.gain.set_value(jnp.sqrt(_squared_length(drawn[...], self.gain[...])))

  def __call__(self) -> Array:
    """Returns the kernel."""
    return self.whole[...] if hasattr(self, "whole") else fold_weight(self.direction[...], self.gain[...])


class NormedConvolution(nnx.Module):
  """A convolution over time; `normed` False makes the kernel one array."""

  def __init__(self, inputs: int, outputs: int, *, kernel: Kernel, bias: bool = True, normed: bool = True, key: Key):
    assert inputs % kernel.groups == outputs % kernel.groups == 0, f"{inputs}, {outputs} in {kernel.groups} groups"
    self.kernel = kernel
    each = inputs // kernel.groups
    self.weight = NormedWeight(
      (kernel.taps, each, outputs), axes=(None, "embed", "mlp"), fan_in=kernel.taps * each, key=key, normed=normed
    )
    self.bias = constant(0.0, (outputs,), axes=("mlp",)) if bias else None

  def __call__(self, x: Hidden) -> Hidden:
    """Returns (T + 2 sides - dilation (taps - 1) - 1) // stride + 1 frames."""
    shape = self.kernel
    weights = self.weight()
    if shape.groups == x.shape[-1] == weights.shape[-1] and shape.stride == 1 and shape.groups > 1:
      y = depthwise(x, weights[:, 0], dilation=shape.dilation, sides=shape.sides)
    elif shape == Kernel(taps=1):
      y = (x.reshape(-1, x.shape[-1]) @ weights[0]).reshape(*x.shape[:-1], weights.shape[-1])
    else:
      y = jax.lax.conv_general_dilated(
        x,
        weights,
        window_strides=(shape.stride,),
        padding=((shape.sides, shape.sides),),
        rhs_dilation=(shape.dilation,),
        dimension_numbers=_LAYOUT,
        feature_group_count=shape.groups,
      )
    return y if self.bias is None else y + self.bias[...]


class NormedUpsampling(nnx.Module):
  """A transposed convolution over time: PyTorch's, with `padding` zeros cut from each side of its output.

  `extra` frames are kept at the end (PyTorch's `output_padding`). The kernel is stored as PyTorch applies it.
  """

  def __init__(self, inputs: int, outputs: int, *, kernel: Kernel, extra: int = 0, normed: bool = True, key: Key):
    self.kernel, self.extra = kernel, extra
    fan_in = max(kernel.taps // kernel.stride, 1) * inputs
    self.weight = NormedWeight(
      (kernel.taps, inputs, outputs), axes=(None, "embed", "mlp"), fan_in=fan_in, key=key, along=1, normed=normed
    )
    self.bias = constant(0.0, (outputs,), axes=("mlp",))

  def __call__(self, x: Hidden) -> Hidden:
    """Returns (T - 1) * stride - 2 padding + taps + extra frames."""
    before = self.kernel.taps - 1 - self.kernel.sides
    y = jax.lax.conv_general_dilated(
      x,
      self.weight()[::-1],
      window_strides=(1,),
      padding=((before, before + self.extra),),
      lhs_dilation=(self.kernel.stride,),
      dimension_numbers=_LAYOUT,
    )
    return y + self.bias[...]


def fold_weight(direction: Array, gain: Array) -> Array:
  """Returns the kernel of a direction and its lengths, which keep the axes they are along."""
  return direction * (gain * jax.lax.rsqrt(_squared_length(direction, gain) + _SMALLEST))


def fold(leaves: Mapping[str, Array]) -> dict[str, Array]:
  """Returns parameters by path with every direction and gain made one array, for inference."""
  folded = {}
  for path, leaf in leaves.items():
    owner, _, name = path.rpartition(".")
    if name == "direction":
      folded[f"{owner}.whole"] = fold_weight(leaf, leaves[f"{owner}.gain"])
    elif name != "gain" or f"{owner}.direction" not in leaves:
      folded[path] = leaf
  return folded


def fold_model(model: nnx.Module, *, into: nnx.Module) -> nnx.Module:
  """Returns the (abstract) model `into`, made with `normed` False, holding the folded parameters of `model`."""
  return trees.unflatten(into, fold(trees.flatten(model)))


def _squared_length(direction: Array, gain: Array) -> Array:
  axes = tuple(axis for axis, size in enumerate(gain.shape) if size == 1)
  return jnp.square(direction).sum(axes, keepdims=True)
