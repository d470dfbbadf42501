import numpy as np
import pytest

from omni_jax.speech.interface import reduce_units


def test_runs_become_one_unit_each():
  reduced, runs = reduce_units(np.array([5, 5, 5, 9, 9, 5]))
  assert reduced.tolist() == [5, 9, 5] and runs.tolist() == [3, 2, 1]


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_repeating_gives_the_units_back(size):
  units = np.random.default_rng(size).integers(0, 3, size).astype(np.int32)
  reduced, runs = reduce_units(units)
  np.testing.assert_array_equal(np.repeat(reduced, runs), units)
  assert (np.diff(reduced) != 0).all() and reduced.dtype == np.int32
