"""Frames -> waveform: the HiFi-GAN generator (Kong et al., arXiv 2010.05646), shared by the vocoders of units and VITS.

    frames [B, T, D] --convolution--> [B, T, W] (+ condition)
       |  for each rate: leaky ReLU, transposed convolution to twice as few channels, mean of residual blocks
       v
    [B, T * hop, W / 2^stages] --leaky ReLU, convolution, tanh--> waveform [B, T * hop]

Reference files: fairseq `models/text_to_speech/hifigan.py`, VITS `models.py`. Deviation: frames outside an utterance
are zeroed in front of every convolution (`valid`), as its padding would be, so that a padded row or a window over the
end of an utterance gives what the utterance alone gives, and shapes can be rounded up.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, Waveform, typed
from omni_jax.nn.weight_norm import Kernel, NormedConvolution, NormedUpsampling

SLOPE, LAST_SLOPE = 0.1, 0.01  # the last one is PyTorch's default, which the original fell back to
_END_TAPS = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiFiGANConfig:
  """Sizes of the generator.

  Attributes:
    inputs: channels of a frame.
    width: channels after the first convolution; each stage halves them.
    rates: outputs for one input of each stage; their product is the hop.
    taps: of the transposed convolution of each stage.
    residual: type of residual block: "1" has two convolutions a dilation, "2" has one.
    block_taps: of the residual blocks of every stage.
    block_dilations: of each of these blocks.
    condition: width of a global condition, such as a style; 0 for none.
    normed_ends: whether first and last convolution have weight norm (unit HiFi-GAN) or not (VITS).
    last_bias: whether the last convolution has a bias (unit HiFi-GAN) or not (VITS).
    normed: whether kernels are stored as length and direction, for training, or folded.
  """

  inputs: int
  width: int
  rates: tuple[int, ...]
  taps: tuple[int, ...]
  residual: str
  block_taps: tuple[int, ...]
  block_dilations: tuple[tuple[int, ...], ...]
  condition: int = 0
  normed_ends: bool = True
  last_bias: bool = True
  normed: bool = True

  def __post_init__(self):
    assert self.residual in ("1", "2"), f"residual {self.residual!r} is 1 or 2"
    assert len(self.rates) == len(self.taps), "every rate has its taps"
    assert len(self.block_taps) == len(self.block_dilations), "every residual block has its dilations"
    assert all(taps >= rate and (taps - rate) % 2 == 0 for rate, taps in zip(self.rates, self.taps, strict=True)), (
      f"taps {self.taps} exceed the rates {self.rates} by an even number, so that a frame makes `hop` samples"
    )
    assert self.width % 2 ** len(self.rates) == 0, f"width {self.width} halves {len(self.rates)} times"

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return math.prod(self.rates)

  @property
  def context(self) -> int:
    """Frames on each side of a frame that its samples depend on."""
    first, last = -(_END_TAPS // 2), self.hop - 1 + _END_TAPS // 2
    second = 1 if self.residual == "1" else 0  # the second convolution of a pair is not dilated
    reach = max(
      sum(taps // 2 * (dilation + second) for dilation in dilations)
      for taps, dilations in zip(self.block_taps, self.block_dilations, strict=True)
    )
    for rate, taps in zip(reversed(self.rates), reversed(self.taps), strict=True):
      padding = (taps - rate) // 2
      first = -((taps - 1 - padding - (first - reach)) // rate)
      last = (last + reach + padding) // rate
    return max(-first, last) + _END_TAPS // 2

  def make(self, *, key: Key) -> "HiFiGAN":
    """Returns a new generator."""
    return HiFiGAN(self, key=key)


class ResidualBlock(nnx.Module):
  """For each dilation, x + convolutions(leaky ReLU(x)): a dilated one, and for type 1 a plain one behind it."""

  def __init__(self, width: int, *, taps: int, dilations: tuple[int, ...], residual: str, normed: bool, key: Key):
    keys = iter(jax.random.split(key, 2 * len(dilations)))
    self.dilated = nnx.List(
      NormedConvolution(width, width, kernel=Kernel(taps=taps, dilation=dilation), normed=normed, key=next(keys))
      for dilation in dilations
    )
    self.plain = nnx.List(
      NormedConvolution(width, width, kernel=Kernel(taps=taps), normed=normed, key=next(keys))
      for _ in (dilations if residual == "1" else ())
    )

  def __call__(self, x: Hidden, valid: Float[Array, "B T 1"] | None) -> Hidden:
    """Returns frames of the same shape."""
    for index, dilated in enumerate(self.dilated):
      y = _masked(dilated(jax.nn.leaky_relu(x, SLOPE)), valid)
      if self.plain:
        y = _masked(self.plain[index](jax.nn.leaky_relu(y, SLOPE)), valid)
      x = x + y
    return x


class HiFiGAN(nnx.Module):
  """The generator; parameter paths: `first`, `condition`, `up.S`, `blocks.S.N.dilated|plain.D`, `last`."""

  def __init__(self, config: HiFiGANConfig, *, key: Key):
    self.config = config
    keys = iter(jax.random.split(key, 3 + len(config.rates) * (1 + len(config.block_taps))))
    ends, normed = Kernel(taps=_END_TAPS), config.normed
    ends_normed = config.normed and config.normed_ends
    self.first = NormedConvolution(config.inputs, config.width, kernel=ends, normed=ends_normed, key=next(keys))
    one, drawn = Kernel(taps=1), next(keys)
    self.condition = (
      NormedConvolution(config.condition, config.width, kernel=one, normed=False, key=drawn)
      if config.condition
      else None
    )
    widths = [config.width >> stage for stage in range(len(config.rates) + 1)]
    self.up = nnx.List(
      NormedUpsampling(
        widths[stage],
        widths[stage + 1],
        kernel=Kernel(taps=taps, stride=rate, padding=(taps - rate) // 2),
        normed=normed,
        key=next(keys),
      )
      for stage, (rate, taps) in enumerate(zip(config.rates, config.taps, strict=True))
    )
    self.blocks = nnx.List(
      nnx.List(
        ResidualBlock(width, taps=taps, dilations=each, residual=config.residual, normed=normed, key=next(keys))
        for taps, each in zip(config.block_taps, config.block_dilations, strict=True)
      )
      for width in widths[1:]
    )
    self.last = NormedConvolution(widths[-1], 1, kernel=ends, bias=config.last_bias, normed=ends_normed, key=next(keys))

  @typed
  def __call__(
    self, x: Hidden, valid: Float[Array, "B T"] | None = None, *, condition: Float[Array, "B G"] | None = None
  ) -> Waveform:
    """Returns `hop` samples for each frame.

    Args:
      x: frames.
      valid: 1 on frames of the utterance, 0 before and after it; None where all are.
      condition: one vector for the whole utterance, where the config has one; None leaves it out.
    """
    assert condition is None or self.condition is not None, "a condition is given where the config has one"
    mask = None if valid is None else valid[..., None]
    x = self.first(_masked(x, mask))
    if self.condition is not None and condition is not None:
      x = x + self.condition(condition[:, None])
    x = _masked(x, mask)
    for up, blocks in zip(self.up, self.blocks, strict=True):
      mask = None if mask is None else jnp.repeat(mask, up.kernel.stride, axis=1)
      x = _masked(up(jax.nn.leaky_relu(x, SLOPE)), mask)
      x = sum((block(x, mask) for block in blocks[1:]), start=blocks[0](x, mask)) / len(blocks)
    return _masked(jnp.tanh(self.last(jax.nn.leaky_relu(x, LAST_SLOPE))), mask)[..., 0]


def _masked(x: Hidden, valid: Array | None) -> Hidden:
  return x if valid is None else x * valid
