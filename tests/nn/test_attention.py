import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.attention import (
  Attention,
  AttentionConfig,
  Kernel,
  Memory,
  attend,
  causal_mask,
  causal_sight,
  same_segment,
)
from omni_jax.nn.rotary import text_rotation

CONFIG = AttentionConfig(width=16, num_heads=4, num_kv_heads=2, head_dim=8, input_bias=True, output_bias=False)


def random(index, *shape):
  return jax.random.normal(jax.random.key(index), shape)


def test_attend_equals_the_definition_head_by_head():
  queries, keys, values = random(0, 2, 4, 5, 8), random(1, 2, 2, 5, 8), random(2, 2, 2, 5, 8)
  mask = causal_mask(jnp.ones((2, 5), int))
  mixed = attend(queries, Memory(keys, values, mask))
  for row, head in [(0, 0), (1, 1), (0, 2), (1, 3)]:
    scores = queries[row, head] @ keys[row, head // 2].T / 8**0.5
    weights = jax.nn.softmax(jnp.where(mask[row], scores, -jnp.inf), axis=-1)
    np.testing.assert_allclose(mixed[row, head], weights @ values[row, head // 2], atol=1e-6)


def test_two_memories_count_as_one():
  queries, keys, values = random(0, 1, 4, 3, 8), random(1, 1, 2, 7, 8), random(2, 1, 2, 7, 8)
  mask = jax.random.bernoulli(jax.random.key(3), 0.6, (1, 3, 7))
  whole = attend(queries, Memory(keys, values, mask))
  first = Memory(keys[:, :, :4], values[:, :, :4], mask[..., :4])
  second = Memory(keys[:, :, 4:], values[:, :, 4:], mask[..., 4:])
  np.testing.assert_allclose(attend(queries, first, second), whole, atol=1e-6)


def test_a_query_that_sees_nothing_stays_finite():
  queries, keys, values = random(0, 1, 4, 2, 8), random(1, 1, 2, 2, 8), random(2, 1, 2, 2, 8)
  mixed = attend(queries, Memory(keys, values, jnp.zeros((1, 2, 2), bool)))
  assert bool(jnp.isfinite(mixed).all())


def test_masks():
  segments = jnp.array([[1, 1, 2, 0]])
  expected = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], bool)
  np.testing.assert_array_equal(causal_mask(segments)[0], expected)
  np.testing.assert_array_equal(same_segment(segments)[0], expected | expected.T)


def test_the_future_does_not_change_the_past():
  layer = Attention(CONFIG, key=jax.random.key(0))
  rotation = text_rotation(jnp.arange(6)[None], head_dim=8, theta=1e4)
  mask = causal_mask(jnp.ones((1, 6), int))
  x = random(1, 1, 6, 16)
  changed = x.at[:, 4:].add(1.0)
  np.testing.assert_array_equal(layer(x, rotation, mask)[:, :4], layer(changed, rotation, mask)[:, :4])


def test_extend_by_one_equals_the_whole():
  layer = Attention(CONFIG, key=jax.random.key(0))
  x, positions = random(1, 1, 6, 16), jnp.arange(6)[None]
  whole = layer(x, text_rotation(positions, head_dim=8, theta=1e4), causal_mask(jnp.ones((1, 6), int)))
  past_rotation = text_rotation(positions[:, :5], head_dim=8, theta=1e4)
  _, (keys, values) = layer.extend(x[:, :5], past_rotation, causal_mask(jnp.ones((1, 5), int)), past=None)
  rotation = text_rotation(positions[:, 5:], head_dim=8, theta=1e4)
  past = Memory(keys, values, jnp.ones((1, 1, 5), bool))
  last, _ = layer.extend(x[:, 5:], rotation, jnp.ones((1, 1, 1), bool), past=past)
  np.testing.assert_allclose(last, whole[:, 5:], atol=1e-6)


def test_impossible_dimensions_are_refused():
  with pytest.raises(AssertionError, match="key-value heads"):
    AttentionConfig(width=16, num_heads=4, num_kv_heads=3, head_dim=8, input_bias=True, output_bias=False)


def test_a_window_is_of_positions_so_that_branches_go_on_from_the_trunk():
  segments, branches = jnp.ones((1, 6), int), jnp.array([[0, 0, 1, 1, 2, 2]])
  positions = jnp.array([[0, 1, 2, 3, 2, 3]])
  sight = causal_sight(segments, positions, kernel=Kernel.XLA, branch_ids=branches, window=2)
  expected = [
    [1, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0],
    [0, 0, 1, 1, 0, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 0, 0, 1, 1],
  ]
  np.testing.assert_array_equal(sight.mask[0], np.array(expected, bool))


def test_a_sight_and_its_mask_give_the_same():
  layer = Attention(CONFIG, key=jax.random.key(0))
  x, positions, segments = random(1, 1, 6, 16), jnp.arange(6)[None], jnp.array([[1, 1, 1, 2, 2, 0]])
  rotation = text_rotation(positions, head_dim=8, theta=1e4)
  sight = causal_sight(segments, positions, kernel=Kernel.XLA)
  np.testing.assert_array_equal(layer(x, rotation, sight), layer(x, rotation, causal_mask(segments)))


def test_half_precision_comes_out_as_it_went_in_and_near_float32():
  queries, keys, values = random(0, 1, 4, 9, 8), random(1, 1, 2, 9, 8), random(2, 1, 2, 9, 8)
  mask = causal_mask(jnp.ones((1, 9), int))
  half = attend(queries.astype(jnp.bfloat16), Memory(keys.astype(jnp.bfloat16), values.astype(jnp.bfloat16), mask))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(jnp.float32), attend(queries, Memory(keys, values, mask)), atol=0.05)
