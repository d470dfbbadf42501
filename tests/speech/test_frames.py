"""Time laid out: the worked example, any window of it, and durations that do not drift."""

import jax.numpy as jnp
import numpy as np

from omni_jax.speech.frames import FEWEST_FRAMES, FRAMES_PER_UNIT, FrameClock, lay_out


def test_the_example_of_the_docstring():
  layout = lay_out(jnp.array([[2, 3]]), jnp.array([1]), 4)
  assert layout.unit.tolist() == [[0, 1, 1, 1]]
  assert layout.since.tolist() == [[1, 0, 1, 2]]
  assert layout.until.tolist() == [[0, 2, 1, 0]]
  assert layout.valid.tolist() == [[1, 1, 1, 1]]


def test_frames_outside_the_sound_are_not_valid():
  layout = lay_out(jnp.array([[2, 3, 0, 0]]), jnp.array([-2]), 9)
  assert layout.valid.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0, 0]]


def test_the_clock_keeps_the_exact_total_and_a_least_length():
  durations = np.random.default_rng(0).uniform(0.6, 3.0, 200)
  counts = FrameClock().counts(durations)
  assert counts.min() >= FEWEST_FRAMES
  assert abs(counts.sum() - FRAMES_PER_UNIT * durations.sum()) <= 0.5
  assert FrameClock().counts(np.full(5, 0.01)).tolist() == [FEWEST_FRAMES] * 5


def test_the_clock_does_not_depend_on_pieces():
  durations = np.random.default_rng(1).uniform(0.6, 3.0, 50)
  clock = FrameClock()
  pieces = np.concatenate([clock.counts(durations[:7]), clock.counts(durations[7:8]), clock.counts(durations[8:])])
  np.testing.assert_array_equal(pieces, FrameClock().counts(durations))
