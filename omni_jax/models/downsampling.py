"""Projectors that make fewer vectors of a square of them: C-Abstractor, SelfMining, average pool, concatenation.

Follows `multimodal_projector/builder.py` and `self_mining_resampler.py` of EMOVA: an optional norm and learned
positions, a mixer that joins neighbours, a two-layer network to the decoder's width. The C-Abstractor (Honeybee, arXiv
2312.06742) is two stages of RegNet bottlenecks (timm 0.9.12 `RegStage` with depthwise 3 x 3 convolutions, squeeze and
excitation, LayerNorm over channels and SiLU) around a mean over cells.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.nn.attention import Memory, attend
from omni_jax.nn.feed_forward import FeedForward, gelu
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.parameter import table, weight

_EPS = 1e-5  # of torch.nn.LayerNorm, and of timm's LayerNormAct2d


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionMixer:
  """The C-Abstractor's mixer: convolutions, a mean over cells, convolutions.

  Attributes:
    width: of the convolutions and of what comes out.
    depth: bottlenecks before the mean, and as many after it.
  """

  width: int
  depth: int

  def out_width(self, inputs: int, rate: float) -> int:
    """Returns the width of the mixed vectors."""
    return self.width

  def make(self, downsampling: "DownsamplingConfig", *, key: Key) -> nnx.Module:
    """Returns the mixer with random weights."""
    return Convolutions(self, downsampling, key=key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiningMixer:
  """Attention inside each cell: its mean asks its members and itself (EMOVA's SelfMining, which has heads of 64).

  Attributes:
    head_dim: of every head; the width is a multiple of it.
  """

  head_dim: int

  def out_width(self, inputs: int, rate: float) -> int:
    """Returns the width of the mixed vectors."""
    return inputs

  def make(self, downsampling: "DownsamplingConfig", *, key: Key) -> nnx.Module:
    """Returns the mixer with random weights."""
    return SelfMining(self, downsampling, key=key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanMixer:
  """The mean of each cell."""

  def out_width(self, inputs: int, rate: float) -> int:
    """Returns the width of the mixed vectors."""
    return inputs

  def make(self, downsampling: "DownsamplingConfig", *, key: Key) -> nnx.Module:
    """Returns the mixer, which has no weights."""
    return CellMean(downsampling)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatenationMixer:
  """The members of each cell side by side."""

  def out_width(self, inputs: int, rate: float) -> int:
    """Returns the width of the mixed vectors."""
    return round(inputs * rate)

  def make(self, downsampling: "DownsamplingConfig", *, key: Key) -> nnx.Module:
    """Returns the mixer, which has no weights."""
    return Concatenation(downsampling)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DownsamplingConfig:
  """Dimensions of a projector that makes fewer vectors.

  Attributes:
    inputs: width of the image vectors.
    outputs: width of the decoder, also the inner width of the last network.
    side: image vectors along a side of the square.
    out_side: vectors along a side that come out.
    mixer: how neighbours become one; concatenation and mining need whole cells.
    input_norm: whether the image vectors are normalised first (EMOVA's `add_pre_norm`).
    positions: whether learned positions are added first (`add_pos_embed`).
  """

  inputs: int
  outputs: int
  side: int
  out_side: int
  mixer: ConvolutionMixer | MiningMixer | MeanMixer | ConcatenationMixer
  input_norm: bool = False
  positions: bool = False

  def __post_init__(self):
    if isinstance(self.mixer, MiningMixer | ConcatenationMixer):
      assert self.side % self.out_side == 0, f"{self.side} vectors a side are no whole cells for {self.out_side}"
    if isinstance(self.mixer, MiningMixer):
      heads = self.mixer.head_dim
      assert self.inputs % heads == 0, f"width {self.inputs} is no multiple of heads of {heads}"

  def make(self, *, key: Key) -> "DownsamplingProjector":
    """Returns a projector with random weights."""
    return DownsamplingProjector(self, key=key)


# EMOVA's llama3_1_internvit_anyres.py at Llama-3.1-8B, and llama3_1_internvit300m_selfMining_anyres.py.
C_ABSTRACTOR_8B = DownsamplingConfig(
  inputs=3200, outputs=4096, side=32, out_side=16, mixer=ConvolutionMixer(width=1024, depth=2)
)
SELF_MINING_8B = DownsamplingConfig(inputs=1024, outputs=4096, side=32, out_side=16, mixer=MiningMixer(head_dim=64))


class DownsamplingProjector(nnx.Module):
  """`side ** 2` image vectors to `out_side ** 2` vectors of the decoder's width."""

  def __init__(self, config: DownsamplingConfig, *, key: Key):
    positions, mixer, feed_forward = jax.random.split(key, 3)
    self.norm = LayerNorm(width=config.inputs, eps=_EPS) if config.input_norm else None
    shape = (config.side**2, config.inputs)
    self.positions = table(positions, shape, axes=(None, "embed")) if config.positions else None
    self.mixer = config.mixer.make(config, key=mixer)
    mixed = config.mixer.out_width(config.inputs, (config.side / config.out_side) ** 2)
    self.feed_forward = FeedForward(
      width=mixed, mlp_dim=config.outputs, outputs=config.outputs, activation=gelu, key=feed_forward
    )

  @typed
  def __call__(self, features: Hidden) -> Float[Array, "B cells outputs"]:
    """Returns fewer vectors, row by row; `features` are the `side ** 2` vectors of each square, row by row."""
    x = features if self.norm is None else self.norm(features)
    if self.positions is not None:
      x = x + self.positions[...]
    return self.feed_forward(self.mixer(x))


class CellMean(nnx.Module):
  """The mean of each cell of a square; where cells do not divide it they overlap (`AdaptiveAvgPool2d`)."""

  def __init__(self, config: DownsamplingConfig):
    self.side, self.out_side = config.side, config.out_side

  def __call__(self, x: Hidden) -> Array:
    """Returns [B, out_side ** 2, D]."""
    means = jnp.asarray(cell_means(self.out_side, self.side), x.dtype)
    plane = x.reshape(x.shape[0], self.side, self.side, -1)
    return jnp.einsum("yr,xc,brcd->byxd", means, means, plane).reshape(x.shape[0], self.out_side**2, -1)


class Concatenation(nnx.Module):
  """The members of each cell of a square side by side, row by row."""

  def __init__(self, config: DownsamplingConfig):
    self.out_side = config.out_side

  def __call__(self, x: Hidden) -> Array:
    """Returns [B, out_side ** 2, members * D]."""
    return _cells(x, self.out_side).reshape(x.shape[0], self.out_side**2, -1)


class SelfMining(nnx.Module):
  """One query a cell, its mean; keys and values are its members and the query itself."""

  def __init__(self, mixer: MiningMixer, config: DownsamplingConfig, *, key: Key):
    keys = jax.random.split(key, 3)
    self.out_side, self.num_heads = config.out_side, config.inputs // mixer.head_dim
    self.query_norm = LayerNorm(width=config.inputs, eps=_EPS)
    self.context_norm = LayerNorm(width=config.inputs, eps=_EPS)
    self.query, self.key, self.value = (
      Linear(config.inputs, config.inputs, axes=("embed", "heads"), bias=False, key=key) for key in keys
    )

  def __call__(self, x: Hidden) -> Array:
    """Returns [B, out_side ** 2, D]."""
    cells = _cells(x, self.out_side)
    cells = cells.reshape(-1, *cells.shape[2:])  # [B * cells, members, D]
    query = self.query_norm(cells.mean(1, keepdims=True))
    context = jnp.concatenate([self.context_norm(cells), query], axis=1)
    queries, keys, values = (
      y.reshape(*y.shape[:2], self.num_heads, -1).swapaxes(1, 2)
      for y in (self.query(query), self.key(context), self.value(context))
    )
    mixed = attend(queries, Memory(keys, values, jnp.ones((1, 1, 1), bool)))
    return mixed.reshape(x.shape[0], self.out_side**2, -1)


class Convolutions(nnx.Module):
  """Bottlenecks on the whole square, the mean of each cell, bottlenecks on what is left."""

  def __init__(self, mixer: ConvolutionMixer, config: DownsamplingConfig, *, key: Key):
    before, after = jax.random.split(key)
    self.side, self.out_side = config.side, config.out_side
    self.before = _stage(config.inputs, mixer, key=before)
    self.pool = CellMean(config)
    self.after = _stage(mixer.width, mixer, key=after)

  def __call__(self, x: Hidden) -> Array:
    """Returns [B, out_side ** 2, width]."""
    for block in self.before:
      x = block(x, self.side)
    x = self.pool(x)
    for block in self.after:
      x = block(x, self.out_side)
    return x


class Bottleneck(nnx.Module):
  """Narrow, look at the eight neighbours, weigh the channels by their mean over the square, widen, add."""

  def __init__(self, inputs: int, width: int, *, key: Key):
    keys = jax.random.split(key, 6)
    squeezed = round(0.25 * inputs)  # timm's `se_ratio`, of the block's inputs
    self.narrow = Linear(inputs, width, axes=("embed", "mlp"), bias=False, key=keys[0])
    self.narrow_norm = LayerNorm(width=width, eps=_EPS)
    self.neighbours = weight(keys[1], (3, 3, width), axes=(None, None, "mlp"), fan_in=9)
    self.neighbours_norm = LayerNorm(width=width, eps=_EPS)
    self.squeeze = Linear(width, squeezed, axes=("embed", "mlp"), bias=True, key=keys[2])
    self.excite = Linear(squeezed, width, axes=("mlp", "embed"), bias=True, key=keys[3])
    self.widen = Linear(width, width, axes=("mlp", "embed"), bias=False, key=keys[4])
    self.widen_norm = LayerNorm(width=width, eps=_EPS)
    differ = inputs != width
    self.shortcut = Linear(inputs, width, axes=("embed", "mlp"), bias=False, key=keys[5]) if differ else None
    self.shortcut_norm = LayerNorm(width=width, eps=_EPS) if differ else None

  def __call__(self, x: Hidden, side: int) -> Array:
    """Returns [B, side ** 2, width]."""
    y = jax.nn.silu(self.narrow_norm(self.narrow(x)))
    y = jax.nn.silu(self.neighbours_norm(_neighbours(y, self.neighbours[...], side)))
    y = y * jax.nn.sigmoid(self.excite(jax.nn.silu(self.squeeze(y.mean(1, keepdims=True)))))
    y = self.widen_norm(self.widen(y))
    if self.shortcut is not None and self.shortcut_norm is not None:
      x = self.shortcut_norm(self.shortcut(x))
    return jax.nn.silu(x + y)


def cell_means(outputs: int, inputs: int) -> np.ndarray:
  """Returns the matrix [outputs, inputs] of means over cells, which overlap where they do not divide the whole."""
  matrix = np.zeros((outputs, inputs), np.float32)
  for cell in range(outputs):
    first, last = cell * inputs // outputs, math.ceil((cell + 1) * inputs / outputs)
    matrix[cell, first:last] = 1 / (last - first)
  return matrix


def _stage(inputs: int, mixer: ConvolutionMixer, *, key: Key) -> nnx.List:
  widths = [inputs] + [mixer.width] * (mixer.depth - 1)
  keys = jax.random.split(key, mixer.depth)
  return nnx.List([Bottleneck(width, mixer.width, key=key) for width, key in zip(widths, keys, strict=True)])


def _neighbours(x: Array, taps: Array, side: int) -> Array:
  # Nine shifted products instead of a depthwise convolution, which XLA's CPU backend runs about eight times slower.
  plane = jnp.pad(x.reshape(x.shape[0], side, side, -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
  shifted = [
    plane[:, row : row + side, column : column + side] * taps[row, column] for row in range(3) for column in range(3)
  ]
  return jnp.stack(shifted).sum(0).reshape(x.shape)


def _cells(x: Array, out_side: int) -> Array:
  side = math.isqrt(x.shape[1])
  edge = side // out_side
  plane = x.reshape(x.shape[0], out_side, edge, out_side, edge, -1).swapaxes(2, 3)
  return plane.reshape(x.shape[0], out_side**2, edge**2, -1)
