import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.train.alignment import align, at_labels, log_likelihood

SILENCE = 3  # of three phones


def _log_probs(rows, frames, seed=0):
  logits = np.random.default_rng(seed).normal(size=(rows, frames, SILENCE + 1)).astype(np.float32)
  return jax.nn.log_softmax(jnp.asarray(logits))


def _all_ways(log_probs, phones):
  """Returns the probability of every way through the states, which start in the first two and end in the last two."""
  labels = [SILENCE, *phones, SILENCE]
  ways = {}
  for way in itertools.product(range(len(labels)), repeat=len(log_probs)):
    moves = np.diff(way)
    if way[0] < 2 and way[-1] >= len(labels) - 2 and ((moves == 0) | (moves == 1)).all():
      ways[way] = float(np.exp(sum(log_probs[frame, labels[state]] for frame, state in enumerate(way))))
  return ways


def test_occupancy_is_the_share_of_all_ways():
  log_probs, phones = _log_probs(1, 6), [1, 1, 0]
  ways = _all_ways(np.asarray(log_probs)[0, :5], phones)
  expected = np.zeros((6, 5))
  for way, probability in ways.items():
    expected[np.arange(5), way] += probability / sum(ways.values())
  occupancy, labels = jax.jit(align)(log_probs, jnp.array([5]), phones=jnp.array([phones]), num_phones=jnp.array([3]))
  np.testing.assert_allclose(occupancy[0], expected, atol=1e-5)
  np.testing.assert_array_equal(labels[0], [SILENCE, *phones, SILENCE])
  scores = at_labels(log_probs, labels)[0]
  assert float(log_likelihood(scores, jnp.array(5), jnp.array(3))) == pytest.approx(
    np.log(sum(ways.values())), rel=1e-4
  )


def test_states_behind_the_last_phone_are_one_silence():
  occupancy, labels = align(_log_probs(1, 6), jnp.array([6]), phones=jnp.array([[2, 0, 1]]), num_phones=jnp.array([1]))
  np.testing.assert_array_equal(labels[0], [SILENCE, 2, SILENCE, SILENCE, SILENCE])
  np.testing.assert_allclose(occupancy[0].sum(-1), 1.0, rtol=1e-5)
  assert float(occupancy[0, :, 3:].sum()) == 0


def test_a_row_too_short_for_its_phones_counts_nothing():
  phones = jnp.array([[0, 1, 2], [0, 1, 2]])
  occupancy, _ = align(_log_probs(2, 5), jnp.array([2, 5]), phones=phones, num_phones=jnp.array([3, 3]))
  assert float(occupancy[0].sum()) == 0 and float(occupancy[1].sum()) == pytest.approx(5.0, rel=1e-5)


def test_the_gradient_is_that_of_the_likelihood():
  log_probs, phones, num_phones = _log_probs(1, 5), jnp.array([[0, 2]]), jnp.array([2])

  def whole(log_probs):
    labels = align(log_probs, jnp.array([5]), phones=phones, num_phones=num_phones)[1]
    return -log_likelihood(at_labels(log_probs, labels)[0], jnp.array(5), num_phones[0])

  def through_occupancy(log_probs):
    occupancy, labels = align(log_probs, jnp.array([5]), phones=phones, num_phones=num_phones)
    return -(occupancy * at_labels(log_probs, labels)).sum()

  np.testing.assert_allclose(jax.grad(through_occupancy)(log_probs), jax.grad(whole)(log_probs), atol=1e-5)
