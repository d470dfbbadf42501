"""The style encoder: waveform -> gender, emotion, pitch, the user's half of a spoken dialogue.

Frames hold a log-mel spectrum and an autocorrelation over logarithmic lags, so that a change of pitch is a shift
along one axis; both are linear in the same power spectrum. Convolutions look at tenths of seconds (speaking rate,
contours), and the mean and deviation of each channel over the recording decide.

EMOVA gives its model the user's style by other means (arXiv 2409.18042, section 3.2); this encoder stands in for it
and is trained on labels.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni_jax.core.arrays import Array, Float, Int, Key, Waveform, typed
from omni_jax.core.styles import EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.nn.convolution import Convolution, FrameNorm, ResidualConvolution, zero_padding
from omni_jax.speech.grouping import map_waveforms
from omni_jax.speech.mel import MelConfig, filterbank, peak_scale, power_spectrum
from omni_jax.speech.waveform_check import check_recording

_EPS = 1e-5
_TOGETHER_SECONDS, _WHOLE_SECONDS = 30.0, 60  # longer recordings are heard alone, and minute by minute
STYLE_SIZES = (len(GENDERS), len(EMOTIONS), len(PITCHES))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleEncoderConfig:
  """Sizes of a style encoder."""

  mel: MelConfig
  num_lags: int
  lowest_f0_hz: float
  highest_f0_hz: float
  width: int
  depth: int
  taps: int

  def make(self, *, key: Key) -> "StyleEncoder":
    """Returns a style encoder with fresh parameters."""
    return StyleEncoder(self, key=key)


class StyleEncoder(nnx.Module):
  """Waveform -> style; satisfies `interface.StyleEncoder`."""

  def __init__(self, config: StyleEncoderConfig, *, key: Key):
    keys = jax.random.split(key, config.depth + 3)
    self.config = config
    num_features = config.mel.num_mels + config.num_lags
    self.stem = Convolution(num_features, config.width, taps=config.taps, key=keys[0])
    self.blocks = nnx.List([ResidualConvolution(config.width, taps=config.taps, key=key) for key in keys[3:]])
    # Statistics are pooled before and after every block: what one frame holds, and what ever wider contexts hold.
    pooled = 2 * config.width * (config.depth + 1)
    self.pooled_norm = FrameNorm(pooled)
    self.hidden = Convolution(pooled, config.width, taps=1, key=keys[1])
    self.head = Convolution(config.width, sum(STYLE_SIZES) + 1, taps=1, key=keys[2])

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    return self.config.mel.sample_rate

  @typed
  def features(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B T C"]:
    """Returns log-mel (mean 0 over the whole recording) and normalised autocorrelation, zero past the end."""
    config = self.config
    num_frames = config.mel.num_frames(samples)
    power = power_spectrum(peak_scale(waveform), config.mel)
    mel = jnp.log(power @ filterbank(config.mel) + config.mel.floor)
    count = jnp.maximum(num_frames, 1)[:, None, None] * mel.shape[-1]
    mel = mel - zero_padding(mel, num_frames).sum((1, 2), keepdims=True) / count
    correlation = power @ _lag_matrix(config)
    correlation = correlation / (power.sum(-1, keepdims=True) + _EPS)
    return zero_padding(jnp.concatenate([mel / 4.0, correlation], axis=-1), num_frames)

  @typed
  def __call__(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B V"]:
    """Returns logits of the genders, then the emotions, then the pitches (`split_style` takes them apart)."""
    return self.outputs(waveform, samples)[:, :-1]

  @typed
  def outputs(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B V"]:
    """Returns the logits, and last the speaking rate, a training target: log2 of phones a second over ten."""
    num_frames = self.config.mel.num_frames(samples)
    x = self.stem(self.features(waveform, samples))
    statistics = [_statistics(x, num_frames)]
    for block in self.blocks:
      x = block(x, num_frames)
      statistics.append(_statistics(x, num_frames))
    pooled = self.pooled_norm(jnp.concatenate(statistics, axis=-1))[:, None, :]
    return self.head(jax.nn.gelu(self.hidden(pooled)))[:, 0]

  def hear(self, waveform: np.ndarray) -> Style:
    """Returns the most likely style of a float waveform [A]."""
    return self.hear_batch([waveform])[0]

  def hear_batch(self, waveforms: Sequence[np.ndarray]) -> list[Style]:
    """Returns the style of each waveform, equal to that of `hear`.

    What is longer than a minute is heard minute by minute, and the mean of what they say decides.

    Raises:
      UserError: no sample, more than one channel, or samples that are no finite numbers.
    """
    checked = [check_recording(one, where=f"recording {place} to hear") for place, one in enumerate(waveforms)]
    size = _WHOLE_SECONDS * self.sample_rate
    pieces = [[one[start : start + size] for start in range(0, len(one), size)] for one in checked]
    run = functools.partial(_jit_logits(), self)
    cut = [piece for row in pieces for piece in row]
    rows = map_waveforms(run, cut, sample_rate=self.sample_rate, together_seconds=_TOGETHER_SECONDS)
    found = iter([logits for (logits,) in rows])
    return [_likeliest([(next(found), len(piece)) for piece in row]) for row in pieces]


def _likeliest(heard: Sequence[tuple[np.ndarray, int]]) -> Style:
  """Returns the style of a recording from the logits of its pieces and their samples."""
  logits = heard[0][0] if len(heard) == 1 else sum(own * samples for own, samples in heard)
  return Style.from_indices(*(int(part.argmax()) for part in np.split(logits, np.cumsum(STYLE_SIZES)[:-1])))


def split_style(logits: Array) -> list[Array]:
  """Returns the logits of gender, emotion and pitch."""
  starts = np.cumsum(STYLE_SIZES)[:-1]
  return jnp.split(logits, starts, axis=-1)


def _statistics(x: Array, lengths: Array) -> Array:
  """Returns mean and deviation [B, 2 * C] over the valid frames; rectified, so that means count events (the rate)."""
  x = jax.nn.gelu(x)
  count = jnp.maximum(lengths, 1)[:, None]
  mean = zero_padding(x, lengths).sum(1) / count
  centred = zero_padding(x - mean[:, None], lengths)
  return jnp.concatenate([mean, jnp.sqrt(jnp.square(centred).sum(1) / count + _EPS)], axis=-1)


@functools.lru_cache
def _lag_matrix(config: StyleEncoderConfig) -> np.ndarray:
  """Returns [F, lags]: autocorrelation = inverse transform of the power at (fractional) lags from short to long."""
  mel = config.mel
  lags = mel.sample_rate / np.geomspace(config.highest_f0_hz, config.lowest_f0_hz, config.num_lags)
  bins = np.arange(mel.fft_size // 2 + 1)
  return np.cos(2 * np.pi * bins[:, None] * lags[None, :] / mel.fft_size).astype(np.float32)


def _logits(model: StyleEncoder, waveform: Array, samples: Array) -> tuple[Array]:
  return (model(waveform, samples),)


@functools.cache
def _jit_logits():
  return jax.jit(_logits)
