"""The excitation: pulses at the asked frequency, of unit power, without drift; noise that does not depend on pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech import source
from omni_jax.speech.frames import PhaseClock
from omni_jax.speech.istft import HOP, SAMPLE_RATE

pulses = jax.jit(source.pulses)


def _phases(controls: np.ndarray) -> np.ndarray:
  """Returns the phase at the start of each segment, from zero."""
  return (np.cumsum(np.append(0, source.turn(controls)[:-1])) % source.TICKS / source.TICKS).astype(np.float32)


def _train(hz: float, segments: int = 40) -> np.ndarray:
  controls = np.full(segments + 1, hz, np.float32)
  return np.asarray(pulses(jnp.asarray(controls)[None], jnp.asarray(_phases(controls))[None]))[0]


@pytest.mark.parametrize("hz", [80.0, 123.4, 250.0, 400.0])
def test_pulses_have_the_asked_frequency_and_unit_power(hz):
  samples = _train(hz)
  peaks = np.flatnonzero((samples[1:-1] > samples[:-2]) & (samples[1:-1] >= samples[2:]) & (samples[1:-1] > 3)) + 1
  assert np.median(np.diff(peaks)) == pytest.approx(SAMPLE_RATE / hz, abs=1.0)
  assert samples.std() == pytest.approx(1.0, abs=0.05)


def test_the_closed_form_is_the_sum_of_the_harmonics():
  phase = np.linspace(-1.3, 1.3, 401, dtype=np.float32)
  number = source.HIGHEST_HARMONIC_HZ / 700.0
  orders = np.arange(1, 13)
  gains = np.where(orders <= number, 1.0, number - np.floor(number))
  expected = (gains * np.cos(2 * np.pi * phase[:, None] * orders)).sum(1) * np.sqrt(2 / number)
  made = np.asarray(source.pulse(jnp.asarray(phase), jnp.full(401, 700.0)))
  np.testing.assert_allclose(made, expected, atol=2e-3)


def test_pieces_of_a_gliding_train_equal_the_whole_and_meet():
  controls = np.linspace(100, 300, 21, dtype=np.float32)
  phases = _phases(controls)
  whole = np.asarray(pulses(jnp.asarray(controls)[None], jnp.asarray(phases)[None]))[0]
  second = pulses(jnp.asarray(controls[10:])[None], jnp.asarray(phases[10:])[None])
  np.testing.assert_allclose(second[0], whole[10 * HOP :], atol=1e-5)
  # At a border the phase that a segment ends with is that which the next begins with.
  ends = phases[:-1] + 0.5 * HOP / SAMPLE_RATE * (controls[:-2] + controls[1:-1])
  np.testing.assert_allclose((ends - phases[1:] + 0.5) % 1.0, 0.5, atol=1e-5)


def test_phases_on_the_device_are_the_sums_of_the_host():
  f0_hz = np.random.default_rng(0).uniform(60, 400, 300).astype(np.float32)
  clock = PhaseClock()
  wanted = np.concatenate([clock.phases(f0_hz[:100]), clock.phases(f0_hz[100:])])
  made = np.asarray(jax.jit(source.phases)(jnp.asarray(f0_hz)[None], jnp.zeros(1)))[0]
  np.testing.assert_allclose((made - wanted + 0.5) % 1.0, 0.5, atol=1e-4)


def test_noise_is_read_at_the_absolute_sample_and_repeats():
  whole = np.asarray(source.noise(jnp.zeros(1, jnp.int32), 600))[0]
  later = np.asarray(source.noise(jnp.array([200 + source.NOISE_SAMPLES], jnp.int32), 400))[0]
  np.testing.assert_array_equal(later, whole[200:])
  assert source.noise_table().std() == pytest.approx(1.0, abs=0.02)
