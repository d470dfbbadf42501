import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.speech.conditions import CONDITIONS, Centroids, condition_of


def test_the_order_is_that_of_the_released_files():
  assert len(CONDITIONS) == len(set(CONDITIONS)) == 126
  assert CONDITIONS[:3] == tuple(f"gender-female_emotion-angry_speed-fast_pitch-{p}" for p in ("high", "low", "normal"))
  assert CONDITIONS[63 * 1 + 9 * 4 + 3 * 2 + 1] == "gender-male_emotion-neutral_speed-slow_pitch-low"


def test_every_style_has_a_condition():
  assert {condition_of(style) for style in ALL_STYLES} <= set(CONDITIONS)
  assert condition_of(Style("male", "happy", "high"), speed="slow") == "gender-male_emotion-happy_speed-slow_pitch-high"
  with pytest.raises(UserError, match="speed-brisk"):
    condition_of(ALL_STYLES[0], speed="brisk")


def test_centroids_of_a_corpus_are_means_of_length_one():
  vectors = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
  found = Centroids.of_corpus(vectors, [CONDITIONS[5], CONDITIONS[5], CONDITIONS[2]])
  assert found.names == (CONDITIONS[2], CONDITIONS[5])
  np.testing.assert_allclose(found.vector(CONDITIONS[5]), [0.5**0.5, 0.5**0.5], rtol=1e-6)
  np.testing.assert_array_equal(found.vector(CONDITIONS[2]), [-1, 0])
  with pytest.raises(UserError, match="unknown condition"):
    found.vector(CONDITIONS[0])


def test_centroids_of_a_release_go_by_its_index():
  table = np.arange(126 * 2, dtype=np.float32).reshape(126, 2)
  np.testing.assert_array_equal(Centroids.of_release(table).vector(CONDITIONS[7]), table[7])
  found = Centroids.of_release(table, {"plain": 3})
  np.testing.assert_array_equal(found.vector("plain"), table[3])


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Centroids.of_corpus(np.zeros((0, 2)), []), "0 vectors and 0 conditions"),
    (lambda: Centroids.of_corpus(np.ones((2, 2)), [CONDITIONS[0]]), "2 vectors and 1 conditions"),
    (lambda: Centroids.of_corpus(np.ones((1, 2)), ["loud"]), "unknown condition 'loud'"),
    (lambda: Centroids.of_corpus(np.array([[1.0], [-1.0]]), [CONDITIONS[0]] * 2), "cancel"),
    (lambda: Centroids.of_release(np.ones((5, 2)), {"plain": 5}), "row 5 of 5"),
    (lambda: Centroids(("plain",), np.full((1, 2), np.nan)), "finite: False"),
    (lambda: Centroids(("plain", "other"), np.ones((1, 2))), "for 2 conditions"),
    (lambda: Centroids(("plain", "plain"), np.ones((2, 2))), "named twice"),
  ],
)
def test_what_makes_no_centroids(make, message):
  with pytest.raises(UserError, match=message):
    make()
