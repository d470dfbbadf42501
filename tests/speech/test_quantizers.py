import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech.quantizers import Quantizer

EMOVA = Quantizer(levels=(8, 8, 8, 8))


def _units(z, quantizer=EMOVA):
  return np.asarray(quantizer.codes_to_units(quantizer.quantise(jnp.asarray(z, jnp.float32)[None])))[0]


def test_known_indices():
  extremes = [[-9.0] * 4, [9.0] * 4, [0.0] * 4, [9.0, -9.0, -9.0, -9.0], [-9.0, -9.0, -9.0, 9.0]]
  assert _units(extremes).tolist() == [0, 4095, 2340, 7, 7 * 512]


def test_boundaries_lie_where_the_reference_has_them():
  # Where tanh(z + tan(offset / half)) crosses a half, computed from the paper's released code.
  boundaries = np.array([-1.4297, -0.7945, -0.4382, -0.1440, 0.1502, 0.5065, 1.1417])

  def digits(z):
    return _units(np.stack([z, *[np.full_like(z, -9.0)] * 3], -1))

  assert digits(boundaries - 2e-3).tolist() == [0, 1, 2, 3, 4, 5, 6]
  assert digits(boundaries + 2e-3).tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("levels", [(8, 8, 8, 8), (7, 5, 5, 5, 5), (3,), (2, 4)])
def test_units_to_codes_and_back(levels):
  quantizer = Quantizer(levels=levels)
  units = jnp.arange(min(quantizer.codebook_size, 5000))[None]
  codes = quantizer.units_to_codes(units)
  assert float(jnp.abs(codes).max()) <= 1.0
  np.testing.assert_array_equal(quantizer.codes_to_units(codes), units)


@pytest.mark.parametrize("levels", [(8, 8, 8, 8), (7, 5, 5, 5, 5)])
def test_every_unit_is_a_fixed_point_of_the_grid(levels):
  quantizer = Quantizer(levels=levels)
  z = jax.random.normal(jax.random.key(0), (1, 4000, len(levels))) * 2
  units = np.asarray(quantizer.codes_to_units(quantizer.quantise(z)))
  assert units.min() >= 0 and units.max() < quantizer.codebook_size
  np.testing.assert_array_equal(quantizer.units_to_codes(jnp.asarray(units)), quantizer.quantise(z))


def test_gradient_passes_straight_through():
  z = jnp.array([[[0.3, -0.2, 1.0, 0.0]]])
  through = jax.grad(lambda z: EMOVA.quantise(z).sum())(z)
  smooth = jax.grad(lambda z: (EMOVA.bound(z) / EMOVA.half).sum())(z)
  np.testing.assert_allclose(through, smooth)


def test_digits_have_dimension_zero_first():
  assert EMOVA.units_to_digits(jnp.array([[1 + 2 * 8 + 3 * 64 + 4 * 512]]))[0, 0].tolist() == [1, 2, 3, 4]
