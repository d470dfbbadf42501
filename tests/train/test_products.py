import jax
import jax.numpy as jnp
import pytest

from omni_jax.train.products import count_products

SHAPE = jax.ShapeDtypeStruct


def test_a_product_and_its_gradients():
  x, w = SHAPE((4, 8), jnp.float32), SHAPE((8, 16), jnp.float32)
  once = 2 * 4 * 8 * 16
  assert count_products(lambda x, w: x @ w, x, w).total == once

  both = count_products(jax.grad(lambda x, w: jnp.sum((x @ w) ** 2), argnums=(0, 1)), x, w)
  assert both.total == 3 * once and both.attention == 0


def test_loops_count_as_often_as_they_run_and_choices_the_dearest_way():
  x, w = SHAPE((4, 8), jnp.float32), SHAPE((5, 8, 8), jnp.float32)
  layer = 2 * 4 * 8 * 8
  assert count_products(lambda x, w: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0], x, w).total == 5 * layer
  one = SHAPE((8, 8), jnp.float32)
  chosen = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)  # noqa: E731
  assert count_products(chosen, x, one).total == 2 * layer


def test_recomputed_products_are_told_apart():
  x, w = SHAPE((4, 8), jnp.float32), SHAPE((8, 8), jnp.float32)
  layer = 2 * 4 * 8 * 8

  def loss(x, w):
    return jnp.sum(jax.checkpoint(lambda x: jnp.tanh(x @ w) @ w)(x) ** 2)

  forward = count_products(loss, x, w)
  assert forward.total == forward.recomputed == 2 * layer
  # Forward, again, and two products back for each of two.
  assert count_products(jax.grad(loss, argnums=(0, 1)), x, w).total >= 7 * layer


def test_batched_products_are_attention_and_groups_count_each_row_once():
  queries = SHAPE((2, 3, 5, 4), jnp.float32)
  scores = count_products(lambda q: jnp.einsum("bkth,bksh->bkts", q, q), queries)
  assert scores.total == scores.attention == 2 * 2 * 3 * 5 * 5 * 4
  rows, experts = SHAPE((10, 4), jnp.float32), SHAPE((3, 4, 6), jnp.float32)
  sizes = SHAPE((3,), jnp.int32)
  once = 2 * 10 * 4 * 6
  assert count_products(jax.lax.ragged_dot, rows, experts, sizes).total == once
  gradient = jax.grad(lambda x, w, n: jax.lax.ragged_dot(x, w, n).sum(), argnums=(0, 1))
  assert count_products(gradient, rows, experts, sizes).total in (2 * once, 3 * once)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups):
  x, kernel = SHAPE((2, 4, 10), jnp.float32), SHAPE((6, 4 // groups, 3), jnp.float32)
  out = count_products(
    lambda x, k: jax.lax.conv_general_dilated(x, k, (1,), "SAME", feature_group_count=groups), x, kernel
  )
  assert out.total == 2 * (2 * 6 * 10) * (4 // groups) * 3
