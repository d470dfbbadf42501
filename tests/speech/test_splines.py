import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech import splines
from omni_jax.speech.splines import make_spline

BINS, BOUND = 7, 5.0
SHAPE = (3, 40)
bend, unbend = jax.jit(splines.bend), jax.jit(splines.unbend)


def spline_and_values():
  rng = np.random.default_rng(0)
  numbers = 2 * rng.standard_normal((*SHAPE, 3 * BINS - 1)).astype(np.float32)
  values = rng.uniform(-7, 7, SHAPE).astype(np.float32)
  values[0, :3] = 1e-3 - BOUND, BOUND - 1e-3, 0.0
  return make_spline(jnp.asarray(numbers), bound=BOUND, divisor=1.5), values


def test_it_rises_from_end_to_end_and_is_the_identity_outside():
  spline, _ = spline_and_values()
  line = np.linspace(-BOUND, BOUND, 201, dtype=np.float32)
  one = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[1, 4], (201, BINS + 1)), spline)
  image = np.asarray(bend(one, line).values)
  assert (np.diff(image) > 0).all()
  np.testing.assert_allclose(image[[0, -1]], [-BOUND, BOUND], atol=1e-5)
  assert np.abs(image - line).max() > 0.1
  outside = np.full(SHAPE, 6.5, np.float32)
  for direction in (bend, unbend):
    mapped = direction(spline, outside)
    np.testing.assert_array_equal(mapped.values, outside)
    assert not np.asarray(mapped.log_slopes).any()


def test_there_and_back():
  spline, values = spline_and_values()
  there = bend(spline, values)
  back = unbend(spline, there.values)
  np.testing.assert_allclose(back.values, values, atol=2e-3)  # steep places lose digits; the median does not
  assert np.median(np.abs(np.asarray(back.values) - values)) < 1e-6
  np.testing.assert_allclose(back.log_slopes, -there.log_slopes, atol=2e-2)


def test_the_slope_is_the_derivative_also_at_the_ends():
  spline, values = spline_and_values()
  slopes = jax.jit(jax.grad(lambda x: bend(spline, x).values.sum()))(jnp.asarray(values))
  np.testing.assert_allclose(jnp.log(slopes), bend(spline, values).log_slopes, atol=1e-3)
  ends = jnp.full(SHAPE, BOUND)
  np.testing.assert_allclose(bend(spline, ends).log_slopes, 0.0, atol=1e-4)
  gradient = jax.jit(jax.grad(lambda x: unbend(spline, x).values.sum()))(jnp.asarray(values))
  assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("direction", ["bend", "unbend"])
def test_it_equals_the_spline_of_transformers(direction):
  torch = pytest.importorskip("torch")
  vits = pytest.importorskip("transformers.models.vits.modeling_vits")
  rng = np.random.default_rng(1)
  numbers = 2 * rng.standard_normal((*SHAPE, 3 * BINS - 1)).astype(np.float32)
  values = rng.uniform(-7, 7, SHAPE).astype(np.float32)
  given = [torch.from_numpy(part) for part in np.split(numbers, [BINS, 2 * BINS], axis=-1)]
  wanted = vits._unconstrained_rational_quadratic_spline(
    torch.from_numpy(values), given[0] / 1.5, given[1] / 1.5, given[2], reverse=direction == "unbend", tail_bound=BOUND
  )
  spline = make_spline(jnp.asarray(numbers), bound=BOUND, divisor=1.5)
  made = bend(spline, values) if direction == "bend" else unbend(spline, values)
  np.testing.assert_allclose(made.values, wanted[0], atol=1e-4)
  np.testing.assert_allclose(made.log_slopes, wanted[1], atol=1e-3)


def test_numbers_that_make_no_spline():
  with pytest.raises(AssertionError, match="3 K - 1"):
    make_spline(jnp.zeros((1, 6)), bound=1.0, divisor=1.0)
