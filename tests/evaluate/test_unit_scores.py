import itertools

import numpy as np
import pytest

from omni_jax.core.styles import ALL_STYLES
from omni_jax.evaluate.scores import edit_distance
from omni_jax.evaluate.unit_scores import agreement, distances, edit_distances, unit_table


def test_edit_distances_of_many_pairs_are_those_of_each():
  generator = np.random.default_rng(0)
  rows = [generator.integers(0, 4, generator.integers(0, 12)) for _ in range(60)]
  firsts, seconds = rows[:30], rows[30:]
  expected = [
    edit_distance([str(x) for x in first], [str(x) for x in second])
    for first, second in zip(firsts, seconds, strict=True)
  ]
  np.testing.assert_array_equal(edit_distances(firsts, seconds), expected)
  assert distances([np.array([1, 2, 3, 4])], [np.array([1, 9])])[0] == pytest.approx(3 / 4)
  assert distances([np.array([], int)], [np.array([], int)])[0] == 0


def test_units_without_style_agree_between_styles_only():
  same = [[np.arange(place, place + 8)] * 24 for place in (0, 100, 200)]
  found = agreement(same, ALL_STYLES)
  assert not found.styles.any() and (found.sentences == 1).all()
  assert set(found.only) == {"gender", "emotion", "pitch"}


def test_what_differs_is_told_apart():
  """Half of the units hold the sentence, a fourth the pitch, a fourth the emotion."""
  grid = [
    [np.r_[0:4, 0:4] + 10 * sentence + 1000 * np.r_[[0] * 4, [style.indices[2]] * 2, [style.indices[1]] * 2]
     for style in ALL_STYLES]
    for sentence in range(3)
  ]  # fmt: skip
  found = agreement(grid, ALL_STYLES)
  assert (found.only["gender"] == 0).all()
  assert (found.only["pitch"] == 0.25).all() and (found.only["emotion"] == 0.25).all()
  pairs = itertools.combinations([style.indices for style in ALL_STYLES], 2)
  expected = np.mean([0.25 * (a[1] != b[1]) + 0.25 * (a[2] != b[2]) for a, b in pairs])
  np.testing.assert_allclose(found.styles, expected)
  np.testing.assert_allclose(found.sentences, 1.0)


def test_the_table_counts_units():
  table = unit_table([np.array([1, 1, 2, 2]), np.array([2, 3, 3, 3])])
  assert table["units"] == 8 and table["different units"] == 3
  assert table["share kept when reduced"] == pytest.approx(4 / 8)
  shares = np.array([2, 3, 3]) / 8
  assert table["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), abs=0.05)
