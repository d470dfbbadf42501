"""Critics that tell made from recorded speech: by periods, by scales (HiFi-GAN, arXiv 2010.05646), by spectra.

Each part gives the outputs of all its layers, the last of which is its score. The spectra's are those of EnCodec (arXiv
2210.13438, appendix A). Deviation: every layer has weight norm; HiFi-GAN's first scale has spectral norm, whose power
iteration keeps state between steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Key, Waveform
from omni_jax.nn.parameter import constant
from omni_jax.nn.weight_norm import Kernel, NormedConvolution, NormedWeight
from omni_jax.speech.spectrogram import SpectrumConfig, spectrum

# For each part the outputs of its layers, the score last.
Judgement = tuple[tuple[Array, ...], ...]

_SLOPE, _SPECTRUM_SLOPE = 0.1, 0.2
_SCORE_TAPS, _POOL_TAPS, _POOL_STRIDE = 3, 4, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeriodsConfig:
  """Critics that see every `period`-th sample.

  Attributes:
    periods: one part for each.
    widths: channels of the layers; all but the last take one of `stride` samples.
    taps: of every layer.
    stride: of all layers but the last.
  """

  periods: tuple[int, ...] = (2, 3, 5, 7, 11)
  widths: tuple[int, ...] = (32, 128, 512, 1024, 1024)
  taps: int = 5
  stride: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalesConfig:
  """Critics of the waveform and of the waveform at half the rate, a quarter, ...

  Attributes:
    scales: parts.
    layers: (channels, taps, stride, groups) of each layer.
  """

  scales: int
  layers: tuple[tuple[int, int, int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectraConfig:
  """Critics of complex spectra.

  Attributes:
    fft_sizes: one part for each; a frame begins every quarter of it.
    width: channels.
    dilations: frames between taps of the layers that halve the frequencies.
  """

  fft_sizes: tuple[int, ...] = (1024, 2048, 512)
  width: int = 32
  dilations: tuple[int, ...] = (1, 2, 4)


HIFIGAN_SCALES = ScalesConfig(
  scales=3,
  layers=(
    (128, 15, 1, 1),
    (128, 41, 2, 4),
    (256, 41, 2, 16),
    (512, 41, 4, 16),
    (1024, 41, 4, 16),
    (1024, 41, 1, 16),
    (1024, 5, 1, 1),
  ),
)
# models.py of VITS: `DiscriminatorS`.
VITS_SCALE = ScalesConfig(
  scales=1,
  layers=((16, 15, 1, 1), (64, 41, 4, 4), (256, 41, 4, 16), (1024, 41, 4, 64), (1024, 41, 4, 256), (1024, 5, 1, 1)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticConfig:
  """Which critics judge together; None leaves one out."""

  scales: ScalesConfig | None
  periods: PeriodsConfig | None
  spectra: SpectraConfig | None

  def __post_init__(self):
    assert self.scales or self.periods or self.spectra, "at least one critic judges"

  def make(self, *, key: Key) -> "Critic":
    """Returns new critics."""
    return Critic(self, key=key)


class Layers(nnx.Module):
  """Convolutions over time with leaky ReLU, and a score for each frame left."""

  def __init__(self, kernels: tuple[tuple[int, Kernel], ...], *, key: Key):
    keys = jax.random.split(key, len(kernels) + 1)
    widths = [1, *(outputs for outputs, _ in kernels)]
    self.layers = nnx.List(
      NormedConvolution(inputs, outputs, kernel=kernel, key=each)
      for inputs, (outputs, kernel), each in zip(widths[:-1], kernels, keys[:-1], strict=True)
    )
    self.score = NormedConvolution(widths[-1], 1, kernel=Kernel(taps=_SCORE_TAPS), key=keys[-1])

  def __call__(self, x: Float[Array, "B T 1"]) -> tuple[Array, ...]:
    """Returns the outputs of all layers, the score last."""
    outputs = []
    for layer in self.layers:
      x = jax.nn.leaky_relu(layer(x), _SLOPE)
      outputs.append(x)
    return (*outputs, self.score(x))


class PlaneConvolution(nnx.Module):
  """A convolution over frames and frequencies [B, T, F, C] that keeps the frames."""

  def __init__(self, inputs: int, outputs: int, *, taps: tuple[int, int], stride: int = 1, dilation: int = 1, key: Key):
    self.stride, self.dilation = stride, dilation
    fan_in = taps[0] * taps[1] * inputs
    self.weight = NormedWeight(
      (*taps, inputs, outputs), axes=(None, None, "embed", "mlp"), fan_in=fan_in, key=key, normed=True
    )
    self.bias = constant(0.0, (outputs,), axes=("mlp",))

  def __call__(self, x: Float[Array, "B T F C"]) -> Float[Array, "B T G D"]:
    """Returns one of `stride` frequencies."""
    weights = self.weight()
    sides = [weights.shape[0] // 2 * self.dilation, weights.shape[1] // 2]
    y = jax.lax.conv_general_dilated(
      x,
      weights,
      window_strides=(1, self.stride),
      padding=[(side, side) for side in sides],
      rhs_dilation=(self.dilation, 1),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + self.bias[...]


class SpectrumLayers(nnx.Module):
  """Convolutions over the complex spectrum of one resolution."""

  def __init__(self, config: SpectraConfig, *, fft_size: int, key: Key):
    keys = iter(jax.random.split(key, len(config.dilations) + 3))
    self.spectrum = SpectrumConfig(fft_size=fft_size, hop_samples=fft_size // 4, window_samples=fft_size, centred=True)
    width = config.width
    first = PlaneConvolution(2, width, taps=(3, 9), key=next(keys))
    middle = [
      PlaneConvolution(width, width, taps=(3, 9), stride=2, dilation=dilation, key=next(keys))
      for dilation in config.dilations
    ]
    self.layers = nnx.List([first, *middle, PlaneConvolution(width, width, taps=(3, 3), key=next(keys))])
    self.score = PlaneConvolution(width, 1, taps=(3, 3), key=next(keys))

  def __call__(self, waveform: Waveform) -> tuple[Array, ...]:
    """Returns the outputs of all layers, the score last."""
    values = spectrum(waveform, self.spectrum) / self.spectrum.fft_size**0.5
    x, outputs = jnp.stack([values.real, values.imag], axis=-1), []
    for layer in self.layers:
      x = jax.nn.leaky_relu(layer(x), _SPECTRUM_SLOPE)
      outputs.append(x)
    return (*outputs, self.score(x))


class Critic(nnx.Module):
  """All critics of a config: scales, periods and spectra, in this order."""

  def __init__(self, config: CriticConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 3)
    scales = _scale_kernels(config.scales) if config.scales else []
    periods = _period_kernels(config.periods) if config.periods else []
    spectra, sizes = config.spectra, config.spectra.fft_sizes if config.spectra else ()
    self.scales = nnx.List(Layers(each, key=jax.random.fold_in(keys[0], part)) for part, each in enumerate(scales))
    self.periods = nnx.List(Layers(each, key=jax.random.fold_in(keys[1], part)) for part, each in enumerate(periods))
    self.spectra = nnx.List(
      SpectrumLayers(spectra, fft_size=size, key=jax.random.fold_in(keys[2], size)) for size in sizes if spectra
    )

  def __call__(self, waveform: Waveform) -> Judgement:
    """Returns the outputs of all layers of all parts."""
    found, x = [], waveform[..., None]
    for number, part in enumerate(self.scales):
      x = _pool(x) if number else x
      found.append(part(x))
    for period, part in zip(self.config.periods.periods if self.config.periods else (), self.periods, strict=True):
      found.append(part(_columns(waveform, period)))
    return (*found, *(part(waveform) for part in self.spectra))


def _scale_kernels(config: ScalesConfig) -> list[tuple[tuple[int, Kernel], ...]]:
  layers = tuple(
    (width, Kernel(taps=taps, stride=stride, groups=groups, padding=taps // 2))
    for width, taps, stride, groups in config.layers
  )
  return [layers] * config.scales


def _period_kernels(config: PeriodsConfig) -> list[tuple[tuple[int, Kernel], ...]]:
  strides = (config.stride,) * (len(config.widths) - 1) + (1,)
  layers = tuple(
    (width, Kernel(taps=config.taps, stride=stride, padding=config.taps // 2))
    for width, stride in zip(config.widths, strides, strict=True)
  )
  return [layers] * len(config.periods)


def _columns(waveform: Waveform, period: int) -> Float[Array, "BP T 1"]:
  """Returns the samples of each phase of a period as rows of their own: the original's (taps, 1) kernels never mix."""
  padded = jnp.pad(waveform, ((0, 0), (0, -waveform.shape[1] % period)), mode="reflect")
  columns = padded.reshape(waveform.shape[0], -1, period).transpose(0, 2, 1)
  return columns.reshape(-1, columns.shape[-1], 1)


def _pool(x: Float[Array, "B T 1"]) -> Float[Array, "B T 1"]:
  """Returns the mean of four samples, every second; zeros at the ends count."""
  padding = ((0, 0), (_POOL_TAPS // 2, _POOL_TAPS // 2), (0, 0))
  window, strides = (1, _POOL_TAPS, 1), (1, _POOL_STRIDE, 1)
  return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, padding) / _POOL_TAPS
