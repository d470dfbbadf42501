import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint import new_rows
from omni_jax.checkpoint.new_rows import draw_rows
from omni_jax.core.errors import UserError


def old_table(rows=40, width=3):
  """Rows with a mean and a covariance that are not those of a new table."""
  draw = np.random.default_rng(0)
  mix = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, -0.7], [0.0, 0.0, 0.1]])
  return jnp.asarray(draw.normal(size=(rows, width)) @ mix + [1.0, -2.0, 3.0], jnp.float32)


def test_new_rows_have_the_dtype_of_the_table():
  for draw in ("mean", "normal"):
    new = draw_rows(old_table().astype(jnp.bfloat16), number=10, key=jax.random.key(0), draw=draw)
    assert new.dtype == jnp.bfloat16 and new.shape == (10, 3)
  assert draw_rows(old_table(), number=0, key=jax.random.key(0)).shape == (0, 3)


@pytest.mark.parametrize("chunk", [16, 8192])
def test_new_rows_have_the_mean_and_a_share_of_the_covariance(chunk, monkeypatch):
  monkeypatch.setattr(new_rows, "_CHUNK", chunk)
  table = np.asarray(old_table(), np.float64)
  number = 50_000
  # A mean of zero, so that float32 holds draws of deviation 3e-5 beside it.
  centred = table - table.mean(0)
  new = np.asarray(draw_rows(jnp.asarray(centred, jnp.float32), number=number, key=jax.random.key(1)), np.float64)
  covariance = 1e-9 * centred.T @ centred / len(table)
  spread = np.sqrt(np.diag(covariance))
  assert np.all(np.abs(new.mean(0)) < 5 * spread / np.sqrt(number) + 1e-8)
  np.testing.assert_allclose(np.cov(new.T, bias=True), covariance, atol=0.03 * spread.max() ** 2)
  mean = np.asarray(draw_rows(old_table(), number=20, key=jax.random.key(2))).mean(0)
  np.testing.assert_allclose(mean, table.mean(0), atol=1e-4)


def test_rows_of_a_new_table_have_deviation_0_02():
  new = np.asarray(draw_rows(old_table(), number=20_000, key=jax.random.key(3), draw="normal"))
  assert abs(new.mean()) < 5 * 0.02 / np.sqrt(new.size)
  np.testing.assert_allclose(new.std(0), 0.02, rtol=0.03)
  other = draw_rows(old_table(), number=20_000, key=jax.random.key(4), draw="normal")
  assert not np.array_equal(new, np.asarray(other))


def test_fewer_rows_than_the_width_are_enough():
  new = draw_rows(old_table(rows=2), number=4, key=jax.random.key(5))
  assert np.isfinite(np.asarray(new)).all()


def test_an_unknown_draw_is_refused():
  with pytest.raises(UserError, match="unknown draw 'zeros'"):
    draw_rows(old_table(), number=10, key=jax.random.key(0), draw="zeros")
