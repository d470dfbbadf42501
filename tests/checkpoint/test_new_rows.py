import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint.new_rows import grow_table
from omni_jax.core.errors import UserError


def old_table(rows=40, width=3):
  """Rows with a mean and a covariance that are not those of a new table."""
  draw = np.random.default_rng(0)
  mix = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, -0.7], [0.0, 0.0, 0.1]])
  return jnp.asarray(draw.normal(size=(rows, width)) @ mix + [1.0, -2.0, 3.0], jnp.float32)


def test_old_rows_stay_bit_for_bit():
  table = old_table().astype(jnp.bfloat16)
  for draw in ("mean", "normal"):
    grown = grow_table(table, rows=50, key=jax.random.key(0), draw=draw)
    assert grown.dtype == jnp.bfloat16 and grown.shape == (50, 3)
    np.testing.assert_array_equal(np.asarray(grown[:40], np.float32), np.asarray(table, np.float32))
  np.testing.assert_array_equal(grow_table(old_table(), rows=7, key=jax.random.key(0)), old_table()[:7])
  np.testing.assert_array_equal(grow_table(old_table(), rows=40, key=jax.random.key(0)), old_table())


def test_new_rows_have_the_mean_and_a_share_of_the_covariance():
  table = np.asarray(old_table(), np.float64)
  number = 50_000
  # A mean of zero, so that float32 holds draws of deviation 3e-5 beside it.
  centred = table - table.mean(0)
  new = np.asarray(
    grow_table(jnp.asarray(centred, jnp.float32), rows=40 + number, key=jax.random.key(1))[40:], np.float64
  )
  covariance = 1e-9 * centred.T @ centred / len(table)
  spread = np.sqrt(np.diag(covariance))
  assert np.all(np.abs(new.mean(0)) < 5 * spread / np.sqrt(number) + 1e-8)
  np.testing.assert_allclose(np.cov(new.T, bias=True), covariance, atol=0.03 * spread.max() ** 2)
  np.testing.assert_allclose(
    np.asarray(grow_table(old_table(), rows=60, key=jax.random.key(2))[40:]).mean(0), table.mean(0), atol=1e-4
  )


def test_rows_of_a_new_table_have_deviation_0_02():
  new = np.asarray(grow_table(old_table(), rows=20_040, key=jax.random.key(3), draw="normal")[40:])
  assert abs(new.mean()) < 5 * 0.02 / np.sqrt(new.size)
  np.testing.assert_allclose(new.std(0), 0.02, rtol=0.03)
  assert not np.array_equal(
    new[:10], np.asarray(grow_table(old_table(), rows=50, key=jax.random.key(4), draw="normal")[40:])
  )


def test_fewer_rows_than_the_width_are_enough():
  new = grow_table(old_table(rows=2), rows=6, key=jax.random.key(5))
  assert np.isfinite(np.asarray(new)).all()


def test_an_unknown_draw_is_refused():
  with pytest.raises(UserError, match="unknown draw 'zeros'"):
    grow_table(old_table(), rows=50, key=jax.random.key(0), draw="zeros")
