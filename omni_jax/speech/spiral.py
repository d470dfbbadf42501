"""SPIRAL2, the encoder of EMOVA's speech-to-unit model: normalised log-mel frames -> one vector every 40 ms.

SPIRAL (arXiv 2201.10207) as the EMOVA speech tokenizer has it (`FeatureEncoder`, `TransformerEncoder` of its NeMo):
stages, each some convolutions and then a pre-norm transformer whose only positions are a wide grouped convolution.

    frames 100/s -> convolutions /4 -> transformer, 2 layers -> convolutions -> transformer, 10 layers -> 25/s

Every layer that looks sideways sees zeros, or nothing, past the end of a recording, so a padded row gives what the row
alone would. Deviation: weights are drawn from cut normal distributions (`nn.parameter`).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Float, Hidden, Int, Key, Mel, typed
from omni_jax.nn.attention import AttentionConfig
from omni_jax.nn.convolution import zero_padding
from omni_jax.nn.dropout import drop, keys_of
from omni_jax.nn.feed_forward import gelu
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.parameter import constant, weight
from omni_jax.nn.positional_convolution import convolve_groups
from omni_jax.nn.stack import fold, stack
from omni_jax.speech.encoder_block import FrameAttention

_NORM_EPS = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionConfig:
  """A convolution over time, a norm of its channels if asked, and ReLU if asked."""

  width: int
  taps: int
  stride: int = 1
  norm: bool = True
  relu: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
  """Convolutions, then a transformer as wide as the last of them.

  Attributes:
    convolutions: in order.
    depth: transformer layers.
    num_heads: of attention.
    mlp_dim: inner width of the feed-forward network.
    layer_drop: share of the layers that a training step leaves out.
  """

  convolutions: tuple[ConvolutionConfig, ...]
  depth: int
  num_heads: int
  mlp_dim: int
  layer_drop: float = 0.0

  @property
  def width(self) -> int:
    """The width of the transformer."""
    return self.convolutions[-1].width

  @property
  def attention(self) -> AttentionConfig:
    """The attention of every layer."""
    return AttentionConfig.of_encoder(width=self.width, num_heads=self.num_heads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpiralConfig:
  """Sizes of an encoder.

  Attributes:
    num_mels: bins of its input.
    stages: in order.
    position_taps, position_groups: of the convolution that tells positions.
    dropout: share of values set to zero in training, everywhere the original has it.
  """

  num_mels: int
  stages: tuple[StageConfig, ...]
  position_taps: int = 128
  position_groups: int = 16
  dropout: float = 0.1

  def __post_init__(self):
    for stage in self.stages:
      assert stage.width % stage.num_heads == 0, f"width {stage.width} over {stage.num_heads} heads"
      assert stage.width % self.position_groups == 0, f"width {stage.width} over {self.position_groups} groups"

  @property
  def width(self) -> int:
    """The width of its output."""
    return self.stages[-1].width

  @property
  def stride(self) -> int:
    """Frames for each vector of its output."""
    stride = 1
    for convolution in (convolution for stage in self.stages for convolution in stage.convolutions):
      stride *= convolution.stride
    return stride

  def make(self, *, key: Key) -> "Spiral":
    """Returns an encoder with random weights."""
    return Spiral(self, key=key)


# The EMOVA speech tokenizer's `st2vec_lfr_pretrain_..._40ms_..._multilingual_2.py`, with the fine-tuning's layer drop.
SPIRAL2_BASE_40MS = SpiralConfig(
  num_mels=128,
  stages=(
    StageConfig(
      convolutions=(
        ConvolutionConfig(width=384, taps=5, stride=2),
        ConvolutionConfig(width=512, taps=5, stride=2),
        ConvolutionConfig(width=512, taps=1, relu=False),
      ),
      depth=2,
      num_heads=8,
      mlp_dim=2048,
    ),
    StageConfig(
      convolutions=(ConvolutionConfig(width=1536, taps=5), ConvolutionConfig(width=768, taps=1, relu=False)),
      depth=10,
      num_heads=12,
      mlp_dim=3072,
      layer_drop=0.1,
    ),
  ),
)


class NormedConvolution(nnx.Module):
  """A dense convolution with bias, norm and ReLU; `ceil(T / stride)` frames come out."""

  def __init__(self, inputs: int, config: ConvolutionConfig, *, key: Key):
    self.config = config
    shape = (config.taps, inputs, config.width)
    # Half the inputs: the variance 2 / fan_in that keeps a ReLU's scale (arXiv 1502.01852).
    self.weight = weight(key, shape, axes=(None, "embed", "mlp"), fan_in=max(config.taps * inputs // 2, 1))
    self.bias = constant(0.0, (config.width,), axes=("mlp",))
    self.norm = LayerNorm(width=config.width, eps=_NORM_EPS) if config.norm else None

  def __call__(self, x: Array, lengths: Array) -> tuple[Array, Array]:
    """Returns frames [B, ceil(T / stride), width] and how many of them each row has; T divides by the stride."""
    taps, stride = self.config.taps, self.config.stride
    assert x.shape[1] % stride == 0, f"{x.shape[1]} frames do not divide by the stride {stride}"
    spare = max(taps - stride, 0)  # TensorFlow's SAME: what is missing goes half before, the larger half behind
    y = jax.lax.conv_general_dilated(
      zero_padding(x, lengths) if taps > 1 else x,
      self.weight[...],
      window_strides=(stride,),
      padding=((spare // 2, spare - spare // 2),),
      dimension_numbers=("NHC", "HIO", "NHC"),
    )
    y = y + self.bias[...]
    y = y if self.norm is None else self.norm(y)
    return jax.nn.relu(y) if self.config.relu else y, -(-lengths // stride)


class PositionConvolution(nnx.Module):
  """Tells positions: GELU of a wide grouped convolution; a tap's weights are a direction times a size (weight norm)."""

  def __init__(self, width: int, *, taps: int, groups: int, key: Key):
    self.groups = groups
    shape = (taps, width // groups, width)
    self.direction = weight(key, shape, axes=(None, None, "mlp"), fan_in=max(taps * width // 4, 1))
    self.size = nnx.Param(jnp.sqrt(jnp.square(self.direction[...]).sum((1, 2))), axes=(None,))
    self.bias = constant(0.0, (width,), axes=("mlp",))

  def __call__(self, x: Array) -> Array:
    """Returns what is added to `x`, which is zero past the end of each row."""
    direction = self.direction[...]
    unit = direction * (self.size[...] * jax.lax.rsqrt(jnp.square(direction).sum((1, 2))))[:, None, None]
    kernel = unit.reshape(*unit.shape[:2], self.groups, -1)
    return gelu(convolve_groups(x, kernel) + self.bias[...])


class SpiralBlock(nnx.Module):
  """Attention, then a feed-forward network, each on the normalised stream and added to it."""

  def __init__(self, config: StageConfig, *, dropout: float, key: Key):
    attention, up, down = jax.random.split(key, 3)
    width, inner = config.width, config.mlp_dim
    self.dropout, self.layer_drop = dropout, config.layer_drop
    self.attention_norm = LayerNorm(width=width, eps=_NORM_EPS)
    self.attention = FrameAttention(config.attention, key=attention)
    self.feed_forward_norm = LayerNorm(width=width, eps=_NORM_EPS)
    self.up = Linear(width, inner, axes=("embed", "mlp"), bias=True, key=up)
    self.down = Linear(inner, width, axes=("mlp", "embed"), bias=True, key=down)

  def __call__(self, x: Hidden, valid: Array, *, key: Key | None = None) -> Hidden:
    """Returns the stream after this layer; with a key, in training."""
    keys = keys_of(key, 4)
    rate, before = self.dropout, x
    mixed = self.attention(self.attention_norm(x), valid[:, None], dropout=rate, key=keys[0])
    x = x + drop(mixed, rate, key=keys[1])
    inner = drop(gelu(self.up(self.feed_forward_norm(x))), rate, key=keys[2])
    x = x + drop(self.down(inner), rate, key=keys[3])
    if key is None or not self.layer_drop:
      return x
    return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 4), self.layer_drop), before, x)


class SpiralStage(nnx.Module):
  """Convolutions, positions, transformer layers and a last norm."""

  def __init__(self, inputs: int, config: StageConfig, *, of: SpiralConfig, key: Key):
    *conv_keys, position, blocks = jax.random.split(key, len(config.convolutions) + 2)
    widths = (inputs, *(convolution.width for convolution in config.convolutions))
    self.dropout = of.dropout
    self.convolutions = nnx.List(
      [
        NormedConvolution(before, convolution, key=conv_key)
        for before, convolution, conv_key in zip(widths, config.convolutions, conv_keys, strict=False)
      ]
    )
    self.position = PositionConvolution(config.width, taps=of.position_taps, groups=of.position_groups, key=position)
    self.blocks = stack(lambda key: SpiralBlock(config, dropout=of.dropout, key=key), depth=config.depth, key=blocks)
    self.norm = LayerNorm(width=config.width, eps=_NORM_EPS)

  def __call__(self, x: Array, lengths: Array, *, key: Key | None) -> tuple[Array, Array]:
    """Returns [B, T, width] and the frames of each row that count."""
    count = len(self.convolutions)
    keys = keys_of(key, count + 2)
    for convolution, conv_key in zip(self.convolutions, keys, strict=False):
      x, lengths = convolution(x, lengths)
      x = drop(x, self.dropout, key=conv_key) if convolution.config.relu else x
    x = zero_padding(x, lengths)
    x = drop(x + self.position(x), self.dropout, key=keys[count])
    valid = jnp.arange(x.shape[1])[None] < lengths[:, None]
    if keys[count + 1] is None:
      x = fold(self.blocks, x, valid)
    else:
      x, _ = fold(self.blocks, (x, keys[count + 1]), valid, call=_train_block, remat=True)
    return self.norm(x), lengths


class Spiral(nnx.Module):
  """Normalised log-mel frames to one vector for each `stride` frames."""

  def __init__(self, config: SpiralConfig, *, key: Key):
    self.config = config
    widths = (config.num_mels, *(stage.width for stage in config.stages))
    keys = jax.random.split(key, len(config.stages))
    self.stages = nnx.List(
      [
        SpiralStage(before, stage, of=config, key=stage_key)
        for before, stage, stage_key in zip(widths, config.stages, keys, strict=False)
      ]
    )

  @typed
  def __call__(self, features: Mel, num_frames: Int[Array, "B"], *, key: Key | None = None) -> Float[Array, "B U D"]:
    """Returns [B, T / stride, width]; vectors at and after `ceil(num_frames / stride)` mean nothing.

    Args:
      features: T divides by the stride.
      num_frames: of each row.
      key: of dropout, in training; none without.
    """
    keys = keys_of(key, len(self.stages))
    x, lengths = features, num_frames
    for stage, stage_key in zip(self.stages, keys, strict=True):
      x, lengths = stage(x, lengths, key=stage_key)
    return x


def _train_block(block: SpiralBlock, carry: tuple[Array, Key], valid: Array) -> tuple[Array, Key]:
  x, key = carry
  own, later = jax.random.split(key)
  return block(x, valid, key=own), later
