"""The power spectrum that filters are expected to give, without making the sound: cheap enough to train on.

The pulses are lines at the multiples of F0, each as wide as the window of the analysis, and the noise is flat:

    power[f] = lines[F0, f] |harmonic[f]|^2 + (sum of window^2) |noise[f]|^2

Phases are taken as independent, which is exact on average for noise and for lines that the window tells apart. A
window hears the neighbouring frames too, by a share of its power that depends on its length alone.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from omni_jax.core.arrays import Array, typed
from omni_jax.speech import istft
from omni_jax.speech.frames import FrameFeatures
from omni_jax.speech.mel import MelConfig, window
from omni_jax.speech.source import HIGHEST_HARMONIC_HZ

_LOWEST_HZ, _HIGHEST_HZ, _PITCHES = 50.0, 500.0, 192  # of the table of line spectra: steps of a fifth of a semitone
_FINE = 1 << 14

Powers = Float[Array, "B T F"]


class Expected(NamedTuple):
  """Power of each frame at the bins of an analysis: what the pulses and what the noise give."""

  harmonic: Powers
  noise: Powers

  @property
  def power(self) -> Powers:
    """The power of both together."""
    return self.harmonic + self.noise


@typed
def expected_power(features: FrameFeatures, f0_hz: Float[Array, "B T"], config: MelConfig) -> Expected:
  """Returns the expected powers of the sound of `features` at `f0_hz`; hop and FFT are those of the synthesis.

  The first and the last frame lack a neighbour and are counted as their own.
  """
  assert config.hop_samples == istft.HOP and config.fft_size == istft.FFT, "analysis and synthesis share their bins"
  place = jnp.log(f0_hz / _LOWEST_HZ) * ((_PITCHES - 1) / np.log(_HIGHEST_HZ / _LOWEST_HZ))
  lines = jnp.asarray(_line_spectra(config))[jnp.clip(jnp.round(place), 0, _PITCHES - 1).astype(jnp.int32)]
  flat = float(np.square(window(config)).sum())
  share = _neighbour_share(config)
  harmonic = lines * jnp.exp(2.0 * (features.harmonic @ istft.band_matrix(features.harmonic.shape[-1])))
  noise = flat * jnp.exp(2.0 * (features.noise @ istft.band_matrix(features.noise.shape[-1])))
  return Expected(_blurred(harmonic, share), _blurred(noise, share))


def _blurred(power: Powers, share: float) -> Powers:
  before = jnp.concatenate([power[:, :1], power[:, :-1]], axis=1)
  after = jnp.concatenate([power[:, 1:], power[:, -1:]], axis=1)
  return (1.0 - 2.0 * share) * power + share * (before + after)


@functools.lru_cache
def _neighbour_share(config: MelConfig) -> float:
  """Returns the share of the window's power that lies under the synthesis window of the next frame."""
  squared = np.square(window(config), dtype=np.float64)
  time = np.arange(len(squared)) - len(squared) / 2
  distance = np.abs(time - istft.HOP) / istft.HOP
  after = np.where(distance < 1.0, 0.5 + 0.5 * np.cos(np.pi * distance), 0.0)
  return float((squared * after).sum() / squared.sum())


@functools.lru_cache
def _line_spectra(config: MelConfig) -> np.ndarray:
  """Returns [_PITCHES, F]: the power of the pulses of each F0 at each bin, as `source.pulse` scales them."""
  response = np.square(np.abs(np.fft.rfft(window(config), _FINE)))
  apart = np.arange(len(response)) * config.sample_rate / _FINE
  bins = np.arange(config.fft_size // 2 + 1) * config.sample_rate / config.fft_size
  rows = []
  for hz in np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _PITCHES):
    lines = np.arange(1, int(HIGHEST_HARMONIC_HZ / hz) + 1) * hz
    heights = np.interp(np.abs(bins[:, None] - lines[None]), apart, response).sum(axis=1)
    rows.append(0.5 * hz / HIGHEST_HARMONIC_HZ * heights)
  return np.array(rows, np.float32)
