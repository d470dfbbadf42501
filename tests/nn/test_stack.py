import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni_jax.core.errors import UserError
from omni_jax.nn.parameter import weight
from omni_jax.nn.stack import POLICIES, depth_of, fold, fold_with_cache, layers_between, slice_layer, stack, unstack


class Block(nnx.Module):
  def __init__(self, key):
    self.weight = weight(key, (4, 4), axes=("embed", None), fan_in=4)

  def __call__(self, x):
    return x + jnp.tanh(x @ self.weight[...])

  def step(self, x, cache):
    return self(x), cache + x.sum()


def test_scan_equals_a_loop_over_sliced_layers():
  blocks = stack(Block, depth=3, key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 4))
  expected = x
  for index in range(depth_of(blocks)):
    expected = slice_layer(blocks, index)(expected)
  np.testing.assert_allclose(fold(blocks, x), expected, rtol=1e-6)
  np.testing.assert_allclose(fold(blocks, x, remat=True), expected, rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_the_same_values_and_gradients(policy):
  blocks = stack(Block, depth=3, key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 4))

  def loss(blocks, remat):
    return jnp.sum(fold(blocks, x, remat=remat) ** 2)

  ours, theirs = (jax.jit(jax.value_and_grad(loss), static_argnums=1)(blocks, name) for name in (policy, "none"))
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_policies_keep_what_they_say():
  """Reads what the forward pass hands to the backward pass: stacked values of three layers."""
  blocks = stack(Block, depth=3, key=jax.random.key(0))
  x = jnp.ones((2, 4))
  kept = {}
  for policy in POLICIES:
    gradient = jax.grad(lambda blocks, policy: fold(blocks, x, remat=policy).sum())
    program = str(jax.make_jaxpr(gradient, static_argnums=1)(blocks, policy))
    forward = program[: program.index("scan[", program.index("scan[") + 1)]
    kept[policy] = forward.count("f32[3,2,4]") + forward.count("f32<host>[3,2,4]")
  assert kept["full"] < kept["dots"] and kept["dots"] <= kept["offload"], kept
  with pytest.raises(UserError, match="unknown remat 'most'"):
    fold(blocks, x, remat="most")


def test_layers_differ():
  blocks = stack(Block, depth=2, key=jax.random.key(0))
  assert not np.allclose(blocks.weight[...][0], blocks.weight[...][1])


def test_cache_is_updated_layer_by_layer():
  blocks = stack(Block, depth=3, key=jax.random.key(0))
  x = jnp.ones((1, 4))
  out, cache = fold_with_cache(blocks, x, jnp.zeros(3))
  np.testing.assert_allclose(out, fold(blocks, x), rtol=1e-6)
  assert float(cache[0]) == 4.0 and float(cache[1]) != 4.0
  apart, again = fold_with_cache(unstack(blocks), x, jnp.zeros(3))
  np.testing.assert_allclose(apart, out, rtol=1e-6)
  np.testing.assert_allclose(again, cache, rtol=1e-6)


def test_parts_of_a_stack_in_turn_equal_the_stack():
  blocks = stack(Block, depth=3, key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 4))
  assert layers_between(blocks, 0, 3) is blocks
  first, rest = layers_between(blocks, 0, 1), layers_between(blocks, 1, 3)
  assert depth_of(rest) == 2
  np.testing.assert_allclose(fold(rest, fold(first, x)), fold(blocks, x), rtol=1e-6)


def test_a_step_may_carry_more_than_the_stream():
  blocks = stack(Block, depth=3, key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 4))
  for remat in (False, True):
    out, count = fold(blocks, (x, 0.0), call=lambda block, state: (block(state[0]), state[1] + 1.0), remat=remat)
    np.testing.assert_allclose(out, fold(blocks, x), rtol=1e-6)
    assert float(count) == 3.0
