"""Filters by the short-time Fourier transform: the identity filter is exact, the phase is minimum."""

import jax.numpy as jnp
import numpy as np

from omni_jax.speech import istft


def _excitation(num_frames: int) -> np.ndarray:
  return np.random.default_rng(0).standard_normal((1, (num_frames + 1) * istft.HOP)).astype(np.float32)


def test_a_filter_of_gain_one_returns_the_excitation():
  excitation = _excitation(8)
  frames = istft.filter_excitation(jnp.asarray(excitation), jnp.zeros((1, 8, 12)))
  samples = np.asarray(istft.overlap_add(frames))[0]
  # The first and the last hop are under one half of a window only.
  np.testing.assert_allclose(
    samples[istft.HOP : 8 * istft.HOP], excitation[0, istft.HOP : 8 * istft.HOP], rtol=0, atol=2e-5
  )
  assert len(samples) == 8 * istft.HOP + istft.TAIL


def test_a_constant_filter_is_its_own_minimum_phase_response():
  bands = np.linspace(1.0, -2.0, 12, dtype=np.float32)
  excitation = np.zeros((1, 5 * istft.HOP), np.float32)
  excitation[0, 300] = 1.0
  frames = istft.filter_excitation(jnp.asarray(excitation), jnp.broadcast_to(bands, (1, 4, 12)))
  samples = np.asarray(istft.overlap_add(frames))[0]
  response = samples[300:400]
  assert np.abs(samples[:295]).max() < 1e-3 * np.abs(response).max(), "a minimum phase response does not come early"
  magnitude = np.abs(np.fft.rfft(samples[300 : 300 + istft.FFT], istft.FFT))
  expected = np.exp(bands @ istft.band_matrix(12))
  np.testing.assert_allclose(np.log(magnitude[4:-4]), np.log(expected[4:-4]), atol=0.02)


def test_bands_add_up_to_one_at_every_bin():
  for num_bands in (8, 24, 48):
    np.testing.assert_allclose(istft.band_matrix(num_bands).sum(0), 1.0, atol=1e-5)


def test_overlap_add_puts_frames_a_hop_apart():
  frames = np.zeros((1, 3, istft.FFT), np.float32)
  frames[0, 0], frames[0, 2] = 1.0, 10.0
  samples = np.asarray(istft.overlap_add(jnp.asarray(frames)))[0]
  assert samples[0] == 1 and samples[2 * istft.HOP] == 11 and samples[istft.FFT] == 10
  assert len(samples) == 3 * istft.HOP + istft.TAIL
