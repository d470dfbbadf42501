import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.nn.rotary import image_rotation, rotate, text_rotation


def test_products_depend_on_the_distance_alone():
  query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

  def product(i, j):
    turned = [rotate(x, text_rotation(jnp.array([[p]]), head_dim=8, theta=100.0)) for x, p in ((query, i), (key, j))]
    return float((turned[0] * turned[1]).sum())

  np.testing.assert_allclose(product(3, 1), product(12, 10), rtol=1e-5)
  assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_rotation_keeps_lengths_and_position_zero_is_the_identity():
  x = jax.random.normal(jax.random.key(0), (1, 2, 3, 8))
  rotation = text_rotation(jnp.array([[0, 5, 900]]), head_dim=8, theta=1e4)
  turned = rotate(x, rotation)
  np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
  np.testing.assert_array_equal(turned[:, :, 0], x[:, :, 0])


def test_image_angles_are_rows_then_columns():
  rotation = image_rotation(jnp.array([[[3, 0], [0, 3]]]), head_dim=8, theta=1e4)
  np.testing.assert_allclose(rotation.sine[0, 0], [np.sin(3), np.sin(0.03), 0, 0], atol=1e-6)
  np.testing.assert_allclose(rotation.sine[0, 1], [0, 0, np.sin(3), np.sin(0.03)], atol=1e-6)
