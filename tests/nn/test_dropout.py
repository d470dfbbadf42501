import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.nn.dropout import drop, keys_of


def test_a_share_is_left_out_and_the_mean_stays():
  x = jnp.ones((100, 100))
  dropped = np.asarray(drop(x, 0.25, key=jax.random.key(0)))
  np.testing.assert_allclose(dropped.max(), 1 / 0.75, rtol=1e-6)
  assert abs((dropped == 0).mean() - 0.25) < 0.02 and abs(dropped.mean() - 1) < 0.02


def test_nothing_is_left_out_without_a_key_or_a_rate():
  x = jnp.ones((3, 3))
  assert drop(x, 0.5, key=None) is x and drop(x, 0.0, key=jax.random.key(0)) is x


def test_keys_of_one_differ_and_none_has_none():
  assert keys_of(None, 3) == [None] * 3
  assert len({key.tobytes() for key in map(np.asarray, map(jax.random.key_data, keys_of(jax.random.key(1), 3)))}) == 3
