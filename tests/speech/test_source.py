"""The excitation: pulses at the asked frequency, of unit power, without drift; noise that does not depend on pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech import source
from omni_jax.speech.istft import HOP, SAMPLE_RATE

pulses = jax.jit(source.pulses)


def _train(hz: float, segments: int = 40) -> np.ndarray:
  return np.asarray(pulses(jnp.full((1, segments + 1), hz), jnp.zeros(1)).samples)[0]


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


def test_pieces_of_a_gliding_train_equal_the_whole():
  controls = jnp.asarray(np.linspace(100, 300, 21, dtype=np.float32)[None])
  whole = pulses(controls, jnp.zeros(1))
  second = pulses(controls[:, 10:], whole.phases[:, 10])
  np.testing.assert_allclose(second.samples[0], whole.samples[0, 10 * HOP :], atol=5e-3)


def test_noise_is_read_at_the_absolute_sample_and_repeats():
  whole = np.asarray(source.noise(jnp.zeros(1, jnp.int32), 600))[0]
  later = np.asarray(source.noise(jnp.array([200 + source.NOISE_SAMPLES], jnp.int32), 400))[0]
  np.testing.assert_array_equal(later, whole[200:])
  assert source.noise_table().std() == pytest.approx(1.0, abs=0.02)
