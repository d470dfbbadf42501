"""HuBERT: waveform -> one vector every 20 ms, from any layer.

Follows arXiv 2106.07447 and transformers' `HubertModel`: strided convolutions on the samples, a projection, positions
from one wide grouped convolution, and a transformer. HuBERT base, mHuBERT base (arXiv 2107.05604, SpeechGPT's) and
HuBERT large differ in their config only.

A padded row gives what the recording gives alone: convolutions take no padding, the first norm of HuBERT base takes its
mean and variance over the valid frames, and frames past the end are zero for the positions and unseen by attention.
Deviation: in the originals a padded row of HuBERT base is normalised together with its padding.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Bool, Float, Hidden, Int, Key, Waveform, typed
from omni_jax.core.errors import UserError
from omni_jax.nn.convolution import zero_padding
from omni_jax.nn.feed_forward import gelu
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.parameter import constant, table
from omni_jax.nn.positional_convolution import PositionalConvolution
from omni_jax.nn.stack import depth_of, fold, layers_between, stack
from omni_jax.nn.unpadded_convolution import UnpaddedConvolution
from omni_jax.speech.encoder_block import EncoderBlock, EncoderConfig

_STEM_EPS = 1e-5  # of the norms between convolutions, in all sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class StemLayer:
  """One convolution of the waveform encoder."""

  width: int
  taps: int
  stride: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertConfig:
  """Dimensions of a HuBERT.

  Attributes:
    sample_rate: of the waveforms it takes.
    stem: convolutions on the samples, first to last.
    stem_bias: whether they have offsets.
    stem_norm_each: a norm of each frame over its channels after every convolution; otherwise one norm of each channel
      over time after the first.
    encoder: the transformer; in pre-norm its output norm stands after the last block, in post-norm before the first.
    position_taps: of the convolution that makes positions.
    position_groups: parts of the width that it mixes within.
    input_norm_eps: of the mean and variance of each waveform, brought to 0 and 1 (1e-5 in fairseq, 1e-7 in
      transformers); None: the waveform is taken as it is.
  """

  sample_rate: int
  stem: tuple[StemLayer, ...]
  stem_bias: bool
  stem_norm_each: bool
  encoder: EncoderConfig
  position_taps: int
  position_groups: int
  input_norm_eps: float | None = None

  def __post_init__(self):
    if not self.stem or self.encoder.width % self.position_groups or self.sample_rate % self.hop_samples:
      raise UserError(
        f"{len(self.stem)} convolutions of {self.hop_samples} samples a frame, width {self.encoder.width}, "
        f"position_groups {self.position_groups}",
        where="config of a HuBERT",
        rule="some convolutions, whole frames in a second, and groups that share the width equally",
        remedy="change the one that does not fit",
      )

  @property
  def hop_samples(self) -> int:
    """Samples from one frame to the next."""
    hop = 1
    for layer in self.stem:
      hop *= layer.stride
    return hop

  @property
  def window_samples(self) -> int:
    """Samples that one frame covers; a recording of fewer has no frame."""
    window = 1
    for layer in reversed(self.stem):
      window = (window - 1) * layer.stride + layer.taps
    return window

  def num_frames(self, samples: Any) -> Any:
    """Returns the frames of a recording of `samples` samples, a number or an array."""
    # The frames of strided convolutions one after the other are those of one with their window and hop.
    frames = (samples - self.window_samples) // self.hop_samples + 1
    return frames * (frames > 0)

  def make(self, *, key: Key) -> "Hubert":
    """Returns a HuBERT with random weights."""
    return Hubert(self, key=key)


HUBERT_STEM = (
  StemLayer(width=512, taps=10, stride=5),
  *(StemLayer(width=512, taps=3, stride=2),) * 4,
  *(StemLayer(width=512, taps=2, stride=2),) * 2,
)

# arXiv 2106.07447, table 1, and config.json of facebook/hubert-base-ls960. Its fairseq task says `normalize: false`.
HUBERT_BASE = HubertConfig(
  sample_rate=16000,
  stem=HUBERT_STEM,
  stem_bias=False,
  stem_norm_each=False,
  encoder=EncoderConfig(width=768, depth=12, num_heads=12, mlp_dim=3072, norm_eps=1e-5, norm_first=False),
  position_taps=128,
  position_groups=16,
)
# mhubert_base_vp_en_es_fr_it3 (textless speech translation, arXiv 2112.08352), which SpeechGPT reads: HuBERT base on
# VoxPopuli. Whether its task normalises the waveform is in the checkpoint only, which could not be had here.
MHUBERT_BASE = HUBERT_BASE
# config.json of facebook/hubert-large-ll60k; fairseq's hubert_large_librivox.yaml has `normalize: true`.
HUBERT_LARGE = HubertConfig(
  sample_rate=16000,
  stem=HUBERT_STEM,
  stem_bias=True,
  stem_norm_each=True,
  encoder=EncoderConfig(width=1024, depth=24, num_heads=16, mlp_dim=4096, norm_eps=1e-5, norm_first=True),
  position_taps=128,
  position_groups=16,
  input_norm_eps=1e-5,
)


class TimeNorm(nnx.Module):
  """Subtracts each channel's mean over the valid frames of its row, divides by its deviation, scales and offsets."""

  def __init__(self, *, width: int, eps: float):
    self.eps = eps
    self.scale = constant(1.0, (width,), axes=(None,))
    self.bias = constant(0.0, (width,), axes=(None,))

  @typed
  def __call__(self, x: Float[Array, "B T C"], num_frames: Int[Array, "B"]) -> Float[Array, "B T C"]:
    """Returns `x` normalised; frames past the end mean nothing."""
    wide = x.astype(jnp.float32)
    count = jnp.maximum(num_frames, 1)[:, None, None]
    mean = zero_padding(wide, num_frames).sum(1, keepdims=True) / count
    centred = wide - mean
    variance = zero_padding(jnp.square(centred), num_frames).sum(1, keepdims=True) / count
    return (centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]).astype(x.dtype)


class Stem(nnx.Module):
  """Convolution, norm where there is one, GELU."""

  def __init__(self, config: HubertConfig, index: int, *, key: Key):
    layer = config.stem[index]
    inputs = config.stem[index - 1].width if index else 1
    self.convolution = UnpaddedConvolution(
      inputs, layer.width, taps=layer.taps, stride=layer.stride, bias=config.stem_bias, key=key
    )
    kind = LayerNorm if config.stem_norm_each else TimeNorm if index == 0 else None
    self.norm = None if kind is None else kind(width=layer.width, eps=_STEM_EPS)

  def __call__(self, x: Array, num_frames: Array) -> Array:
    """Returns frames [B, U, width], of which `num_frames` [B] are valid."""
    x = self.convolution(x)
    if isinstance(self.norm, TimeNorm):
      x = self.norm(x, num_frames)
    elif self.norm is not None:
      x = self.norm(x)
    return gelu(x)


class Hubert(nnx.Module):
  """Waveform -> frames."""

  def __init__(self, config: HubertConfig, *, key: Key):
    stem, projection, mask, positions, blocks = jax.random.split(key, 5)
    width, inner = config.encoder.width, config.stem[-1].width
    self.config = config
    keys = jax.random.split(stem, len(config.stem))
    self.stem = nnx.List([Stem(config, index, key=keys[index]) for index in range(len(config.stem))])
    self.stem_norm = LayerNorm(width=inner, eps=config.encoder.norm_eps)
    self.projection = Linear(inner, width, axes=(None, "embed"), bias=True, key=projection)
    # Stands for a masked frame in training (`hubert_pretraining`).
    self.mask_vector = table(mask, (1, width), axes=(None, "embed"), deviation=0.3)
    self.positions = PositionalConvolution(
      width, taps=config.position_taps, groups=config.position_groups, key=positions
    )
    self.norm = LayerNorm(width=width, eps=config.encoder.norm_eps)
    self.blocks = stack(lambda key: EncoderBlock(config.encoder, key=key), depth=config.encoder.depth, key=blocks)

  @typed
  def features(self, waveform: Waveform, samples: Int[Array, "B"], *, layer: int | None = None) -> Hidden:
    """Returns frames [B, num_frames(A), D], zero past the end of each row.

    Args:
      waveform: [B, A], of at least `window_samples`; what is past the `samples` of a row is not looked at.
      samples: of each row; a row of less than one window has no valid frame.
      layer: the stream after this many blocks, as fairseq counts its layers (SpeechGPT reads 11); 0 is the input of
        the first block; None: the output of the whole model.
    """
    num_frames = self.config.num_frames(samples)
    frames = self.frames(waveform, samples)
    return self.contextual(self.project(frames), num_frames, layer=layer)

  @typed
  def frames(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B T C"]:
    """Returns what the convolutions make of the samples."""
    # An infinite or undefined sample past the end must not reach a valid frame through a product with zero.
    x, num_frames = zero_padding(waveform, samples), samples
    if self.config.input_norm_eps is not None:
      x = _standardised(x, samples, eps=self.config.input_norm_eps)
    x = x[..., None]
    for layer in self.stem:
      num_frames = layer.convolution.num_frames(num_frames)
      x = layer(x, num_frames)
    return zero_padding(x, num_frames)

  @typed
  def project(self, frames: Float[Array, "B T C"]) -> Hidden:
    """Returns frames of the stem brought to the width of the transformer."""
    return self.projection(self.stem_norm(frames))

  @typed
  def mask(self, projected: Hidden, masked: Bool[Array, "B T"]) -> Hidden:
    """Returns the frames with the mask vector where `masked` [B, T] is true."""
    return jnp.where(masked[..., None], self.mask_vector[...].astype(projected.dtype), projected)

  @typed
  def contextual(self, projected: Hidden, num_frames: Int[Array, "B"], *, layer: int | None = None) -> Hidden:
    """Returns the frames after `layer` blocks, or of the whole model; see `features`.

    Raises:
      UserError: there are fewer blocks.
    """
    config, depth = self.config.encoder, depth_of(self.blocks)
    check_layer(layer, depth=depth)
    x = zero_padding(projected, num_frames)
    x = x + gelu(self.positions(x))
    x = x if config.norm_first else self.norm(x)
    seen = (jnp.arange(x.shape[1])[None, :] < num_frames[:, None])[:, None]
    last = depth if layer is None else layer
    if last:
      x = fold(layers_between(self.blocks, 0, last), x, seen, remat=config.remat)
    if config.norm_first and layer is None:
      x = self.norm(x)
    return zero_padding(x, num_frames)


def check_layer(layer: int | None, *, depth: int) -> None:
  """Raises a UserError where a HuBERT of `depth` blocks has no such layer."""
  if layer is not None and not 0 <= layer <= depth:
    raise UserError(
      f"layer {layer}",
      where="features of HuBERT",
      rule=f"layers count from 0, the input of the first block, to {depth}, the output of the last",
      remedy="choose one of these, or None for the output of the whole model",
    )


def _standardised(x: Array, samples: Array, *, eps: float) -> Array:
  """Returns rows [B, A] with mean 0 and variance 1 over their valid samples, and zero after them."""
  count = jnp.maximum(samples, 1)[:, None]
  centred = zero_padding(x - zero_padding(x, samples).sum(1, keepdims=True) / count, samples)
  return centred * jax.lax.rsqrt(jnp.square(centred).sum(1, keepdims=True) / count + eps)
