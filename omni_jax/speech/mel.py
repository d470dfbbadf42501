"""Log-mel features, the same in NumPy (data preparation, checks) and in JAX (inside the models).

Frame t covers `window_samples` centred on the middle of hop t, samples [hop * t, hop * (t + 1)); samples outside the
recording are zero, so a padded recording gives the frames of the recording alone:

    samples   |--hop 0--|--hop 1--|--hop 2--| zeros ...
    frame 1      [------window------]

`A` samples have `ceil(A / hop)` frames. Filters: Slaney's scale and area norm (librosa's default). Deviation from the
EMOVA tokenizer: no pre-emphasis and no dither (a per-bin mean and variance follow anyway), a floor that scales with
the peak, and no reflection at the ends (it would depend on the padding).
"""

import dataclasses
import functools
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Float, Int, Mel, Waveform, typed

_EPS = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class MelConfig:
  """Analysis of one waveform into log-mel frames."""

  sample_rate: int
  hop_samples: int
  window_samples: int
  fft_size: int
  num_mels: int
  low_hz: float
  high_hz: float
  floor: float  # added to the mel power of a waveform with peak 1, before the logarithm

  def __post_init__(self):
    assert self.span_samples <= self.fft_size, f"window {self.window_samples} does not fit fft_size {self.fft_size}"
    assert self.high_hz <= self.sample_rate / 2, f"high_hz {self.high_hz} is above half of {self.sample_rate}"

  @property
  def span_samples(self) -> int:
    """The window widened to an odd number of whole hops, so that frames are cut by reshaping."""
    hops = -(-self.window_samples // self.hop_samples)
    return (hops + 1 - hops % 2) * self.hop_samples

  def num_frames(self, samples: Any) -> Any:
    """Returns the frames of a recording of `samples` samples."""
    return -(-samples // self.hop_samples)


def power_spectrum(waveform: Waveform, config: MelConfig) -> Float[Array, "B T F"]:
  """Returns the power [B, ceil(A / hop), fft_size / 2 + 1] of each windowed frame."""
  return _power_spectrum(jnp, waveform, config)


@typed
def log_mel(waveform: Waveform, config: MelConfig) -> Mel:
  """Returns natural-log mel frames of a waveform scaled to peak 1; zeros past the end of a row are harmless."""
  return _log_mel(jnp, waveform, config)


def log_mel_numpy(waveform: np.ndarray, config: MelConfig) -> np.ndarray:
  """Returns the same as `log_mel`, [B, T, M] from [B, A], computed by NumPy."""
  return _log_mel(np, waveform, config)


@typed
def normalise(features: Mel, num_frames: Int[Array, "B"]) -> Mel:
  """Returns features with mean 0 and variance 1 for each bin over the valid frames, and zero after them."""
  valid = (jnp.arange(features.shape[1])[None, :] < num_frames[:, None])[..., None]
  count = jnp.maximum(num_frames, 1)[:, None, None]
  mean = jnp.where(valid, features, 0.0).sum(1, keepdims=True) / count
  centred = jnp.where(valid, features - mean, 0.0)
  deviation = jnp.sqrt(jnp.square(centred).sum(1, keepdims=True) / count + _EPS)
  return centred / deviation


def peak_scale(waveform: Waveform) -> Waveform:
  """Returns each row scaled to a peak of 1; a silent row stays silent."""
  return waveform / (jnp.abs(waveform).max(-1, keepdims=True) + _EPS)


def filterbank(config: MelConfig) -> np.ndarray:
  """Returns the mel filters of an analysis, [fft_size / 2 + 1, M]."""
  return mel_filters(
    sample_rate=config.sample_rate,
    fft_size=config.fft_size,
    num_mels=config.num_mels,
    low_hz=config.low_hz,
    high_hz=config.high_hz,
  )


@functools.lru_cache
def mel_filters(*, sample_rate: int, fft_size: int, num_mels: int, low_hz: float, high_hz: float) -> np.ndarray:
  """Returns triangular mel filters [fft_size / 2 + 1, M], each of unit area over frequency in Hz (Slaney)."""
  edges = _mel_to_hz(np.linspace(_hz_to_mel(low_hz), _hz_to_mel(high_hz), num_mels + 2))
  hz = np.linspace(0.0, sample_rate / 2, fft_size // 2 + 1)[:, None]
  rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
  falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
  filters = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (edges[2:] - edges[:-2])
  return filters.astype(np.float32)


@functools.lru_cache
def window(config: MelConfig) -> np.ndarray:
  """Returns the periodic Hann window [span], zero outside its middle `window_samples`."""
  size, span = config.window_samples, config.span_samples
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
  before = (span - size) // 2
  return np.pad(hann, (before, span - size - before)).astype(np.float32)


def _power_spectrum(xp: ModuleType, waveform: Any, config: MelConfig) -> Any:
  hop = config.hop_samples
  num_hops = config.span_samples // hop
  num_frames = config.num_frames(waveform.shape[-1])
  side = (num_hops - 1) // 2 * hop
  padded = xp.pad(waveform, ((0, 0), (side, num_frames * hop - waveform.shape[-1] + side)))
  hops = padded.reshape(padded.shape[0], -1, hop)
  frames = xp.concatenate([hops[:, index : index + num_frames] for index in range(num_hops)], axis=-1)
  spectrum = xp.fft.rfft(frames * window(config), n=config.fft_size)
  return xp.square(spectrum.real) + xp.square(spectrum.imag)


def _log_mel(xp: ModuleType, waveform: Any, config: MelConfig) -> Any:
  scaled = waveform / (xp.abs(waveform).max(-1, keepdims=True) + _EPS)
  return xp.log(_power_spectrum(xp, scaled, config) @ filterbank(config) + config.floor)


# Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, then 27 steps for each factor of 6.4.
_LINEAR_HZ, _BREAK_HZ, _LOG_STEP = 200.0 / 3, 1000.0, np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
  if hz < _BREAK_HZ:
    return hz / _LINEAR_HZ
  return _BREAK_HZ / _LINEAR_HZ + float(np.log(hz / _BREAK_HZ)) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
  break_mel = _BREAK_HZ / _LINEAR_HZ
  return np.where(mel < break_mel, mel * _LINEAR_HZ, _BREAK_HZ * np.exp((mel - break_mel) * _LOG_STEP))
