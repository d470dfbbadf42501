"""Spectra of waveforms reflected at both ends, periodic Hann window, no scaling; NumPy for hosts, JAX for devices.

Vocoders are trained with them, and VITS' posterior encoder and EMOVA's voice encoder hear their magnitudes (VITS,
`mel_processing.py: spectrogram_torch`): a recording is analysed alone, before it is padded to a batch.
`MelDistance` and `SpectraDistance` say how far a made waveform is from the recording (HiFi-GAN, arXiv 2010.05646;
Parallel WaveGAN, arXiv 1910.11480). Unlike `speech.mel` a row of a batch is a clip cut from speech, without padding.
"""

import dataclasses
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float, Int

from omni_jax.core.arrays import Array, Scalar, Waveform, typed
from omni_jax.speech.mel import mel_filters
from omni_jax.speech.waveform_check import check_recording

VITS_FLOOR = 1e-6  # added to the power under the root of what VITS' encoders hear


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrumConfig:
  """One analysis.

  Attributes:
    fft_size: samples of a transform.
    hop_samples: from one frame to the next.
    window_samples: width of the window, in the middle of the transform.
    centred: whether a frame stands in the middle of its hop's first sample (PyTorch's `center`), or frames tile the
      clip: A / hop of them, as HiFi-GAN has it.
  """

  fft_size: int
  hop_samples: int
  window_samples: int
  centred: bool = False

  @property
  def side(self) -> int:
    """Samples reflected at each end."""
    return self.fft_size // 2 if self.centred else (self.fft_size - self.hop_samples) // 2


@typed
def spectrum(waveform: Waveform, config: SpectrumConfig) -> Complex[Array, "B T F"]:
  """Returns the spectrum [B, 1 + (A + 2 side - fft_size) // hop, fft_size / 2 + 1]; A exceeds `side`."""
  assert waveform.shape[1] > config.side, f"clips of {waveform.shape[1]} samples cannot be reflected by {config.side}"
  return _spectrum(jnp, waveform, config)


@typed
def magnitude(waveform: Waveform, config: SpectrumConfig, *, floor: float) -> Float[Array, "B T F"]:
  """Returns the root of the power plus `floor`, which keeps the gradient of silence finite."""
  return _magnitude(jnp, spectrum(waveform, config), floor)


@typed
def magnitude_of_rows(
  waveform: Waveform, num_samples: Int[Array, "B"], config: SpectrumConfig, *, floor: float
) -> Float[Array, "B T F"]:
  """Returns the same of recordings padded to one length, each reflected at its own end, as if it were alone.

  Frames past the end of a recording mean nothing. Each recording has more samples than `config.side`.
  """
  places = jnp.abs(jnp.arange(-config.side, waveform.shape[1] + config.side))[None]
  last = num_samples[:, None] - 1
  places = jnp.clip(jnp.where(places > last, 2 * last - places, places), 0, waveform.shape[1] - 1)
  return _magnitude(jnp, _frames(jnp, jnp.take_along_axis(waveform, places, axis=1), config), floor)


def magnitude_numpy(waveform: np.ndarray, config: SpectrumConfig, *, floor: float) -> np.ndarray:
  """Returns the same of one recording [A], float32 [T, F], computed by NumPy.

  Raises:
    UserError: too short to be reflected, more than one channel, or samples that are not numbers.
  """
  check_recording(waveform, where="spectrum of a recording", fewest=max(config.side + 1, config.hop_samples))
  values = _spectrum(np, np.asarray(waveform, np.float32)[None], config)
  return _magnitude(np, values, floor)[0].astype(np.float32)


def _spectrum(xp: ModuleType, waveform: Any, config: SpectrumConfig) -> Any:
  return _frames(xp, xp.pad(waveform, ((0, 0), (config.side, config.side)), mode="reflect"), config)


def _frames(xp: ModuleType, padded: Any, config: SpectrumConfig) -> Any:
  num_frames = 1 + (padded.shape[1] - config.fft_size) // config.hop_samples
  places = np.arange(num_frames)[:, None] * config.hop_samples + np.arange(config.fft_size)
  size = config.window_samples
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
  before = (config.fft_size - size) // 2
  window = np.pad(hann, (before, config.fft_size - size - before)).astype(np.float32)
  return xp.fft.rfft(padded[:, places] * window)


def _magnitude(xp: ModuleType, values: Any, floor: float) -> Any:
  return xp.sqrt(xp.square(values.real) + xp.square(values.imag) + floor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MelDistance:
  """Mean absolute difference of log mel magnitudes.

  Attributes:
    sample_rate: Hz; the bands reach from 0 to half of it, whatever a model's own input features cover.
    spectrum: the analysis.
    num_mels: bands.
    floor: added to the power (1e-9 in HiFi-GAN, 1e-6 in VITS).
    quietest: smallest mel magnitude told apart.
  """

  sample_rate: int
  spectrum: SpectrumConfig
  num_mels: int = 80
  floor: float = 1e-9
  quietest: float = 1e-5

  def __call__(self, made: Waveform, real: Waveform) -> Scalar:
    """Returns the distance."""
    return jnp.abs(self.features(made) - self.features(real)).mean()

  def features(self, waveform: Waveform) -> Float[Array, "B T M"]:
    """Returns natural-log mel frames."""
    filters = mel_filters(
      sample_rate=self.sample_rate,
      fft_size=self.spectrum.fft_size,
      num_mels=self.num_mels,
      low_hz=0.0,
      high_hz=self.sample_rate / 2,
    )
    mels = magnitude(waveform, self.spectrum, floor=self.floor) @ jnp.asarray(filters)
    return jnp.log(jnp.maximum(mels, self.quietest))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectraDistance:
  """Spectral convergence and difference of log magnitudes, on average over several analyses.

  Attributes:
    spectra: the analyses.
    floor: added to the power.
  """

  spectra: tuple[SpectrumConfig, ...]
  floor: float = 1e-7

  def __call__(self, made: Waveform, real: Waveform) -> Scalar:
    """Returns the distance."""
    parts = []
    for config in self.spectra:
      ours, theirs = (magnitude(waveform, config, floor=self.floor) for waveform in (made, real))
      convergence = jnp.sqrt(jnp.square(theirs - ours).sum() / jnp.square(theirs).sum())
      parts.append(convergence + jnp.abs(jnp.log(theirs) - jnp.log(ours)).mean())
    return jnp.stack(parts).mean()
