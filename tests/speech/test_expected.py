"""The expected power is that of the sound which the filters really make."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech.expected import expected_power
from omni_jax.speech.frames import SILENT, FrameFeatures, speak, voiced
from omni_jax.speech.mel import MelConfig, filterbank, power_spectrum

ANALYSIS = MelConfig(
  sample_rate=16000, hop_samples=160, window_samples=400, fft_size=512, num_mels=20, low_hz=60.0, high_hz=7000.0,
  floor=0.0,
)  # fmt: skip
FRAMES = 100


def _features(f0_hz: float, *, harmonic: np.ndarray, noise: np.ndarray) -> FrameFeatures:
  rows = [np.broadcast_to(part, (1, FRAMES, len(part))) for part in (harmonic, noise)]
  return FrameFeatures(jnp.full((1, FRAMES), f0_hz), *(jnp.asarray(row, jnp.float32) for row in rows))


def _sound(features: FrameFeatures):
  return speak(voiced(features, jnp.zeros(1)), jnp.ones((1, FRAMES)), first=jnp.zeros(1, jnp.int32))


def _bands(power) -> np.ndarray:
  return np.log(np.asarray(power @ filterbank(ANALYSIS))[0, 5:-5].mean(0))


@pytest.mark.parametrize("f0_hz", [90.0, 133.0, 240.0])
@pytest.mark.parametrize("source", ["pulses", "noise", "both"])
def test_bands_have_the_power_of_the_sound(f0_hz, source):
  tilt = np.linspace(-1.0, -3.0, 24)
  features = _features(
    f0_hz,
    harmonic=np.full(24, SILENT) if source == "noise" else tilt,
    noise=np.full(12, SILENT) if source == "pulses" else np.linspace(-3.0, -1.0, 12),
  )
  sound = _sound(features)
  expected = expected_power(features, features.f0_hz, ANALYSIS)
  np.testing.assert_allclose(_bands(expected.power), _bands(power_spectrum(sound, ANALYSIS)), atol=0.3)


def test_a_neighbour_is_heard():
  noise = jnp.full((1, FRAMES, 12), SILENT).at[:, 50].set(0.0)
  features = FrameFeatures(jnp.full((1, FRAMES), 100.0), jnp.full((1, FRAMES, 24), SILENT), noise)
  power = expected_power(features, features.f0_hz, ANALYSIS).noise.sum(-1)[0]
  shares = np.asarray(power[48:53] / power.sum())
  assert shares[[0, 4]].max() < 1e-6 and shares[1] == pytest.approx(shares[3]) and 0.05 < shares[1] < 0.3


def test_another_hop_is_refused():
  features = _features(100.0, harmonic=np.zeros(4), noise=np.zeros(4))
  with pytest.raises(AssertionError, match="share"):
    expected_power(features, features.f0_hz, dataclasses.replace(ANALYSIS, hop_samples=80))
