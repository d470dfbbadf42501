import numpy as np

from omni_jax.tokens.units import expand_units, reduce_units


def test_expanding_undoes_reducing():
  draw = np.random.default_rng(0)
  for length in range(30):
    raw = draw.integers(0, 3, length).astype(np.int32)
    reduced, runs = reduce_units(raw)
    np.testing.assert_array_equal(expand_units(reduced, runs), raw)
    assert np.all(reduced[1:] != reduced[:-1]) and reduced.dtype == np.int32
