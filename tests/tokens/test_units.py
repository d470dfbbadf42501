import numpy as np

from omni_jax.tokens.units import expand_units, reduce_units


def test_runs_become_one_unit_each():
  reduced, runs = reduce_units([5, 5, 5, 9, 9, 5])
  assert reduced.tolist() == [5, 9, 5] and runs.tolist() == [3, 2, 1]


def test_expanding_undoes_reducing():
  draw = np.random.default_rng(0)
  for length in range(30):
    raw = draw.integers(0, 3, length).astype(np.int32)
    reduced, runs = reduce_units(raw)
    np.testing.assert_array_equal(expand_units(reduced, runs), raw)
    assert np.all(reduced[1:] != reduced[:-1]) and reduced.dtype == np.int32
