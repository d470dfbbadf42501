import jax.numpy as jnp
import numpy as np

from omni_jax.models.fusion import fill_image_places


def test_places_are_filled_in_order_row_by_row():
  x = -jnp.ones((2, 5, 1))
  features = jnp.arange(6.0).reshape(2, 3, 1)
  is_image = jnp.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]], bool)
  filled = fill_image_places(x, features, is_image=is_image)
  np.testing.assert_array_equal(filled[..., 0], [[-1, 0, 1, -1, 2], [3, -1, -1, -1, -1]])
