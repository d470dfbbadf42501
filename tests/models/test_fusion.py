import jax.numpy as jnp
import numpy as np

from omni_jax.models.fusion import fill_image_places, lay_out
from omni_jax.prepare.tiles import NEWLINE, PADDING


def test_places_are_filled_in_order_row_by_row():
  x = -jnp.ones((2, 5, 1))
  features = jnp.arange(10.0).reshape(2, 5, 1)
  is_real = jnp.array([[1, 0, 1, 0, 1], [0, 0, 1, 0, 0]], bool)  # the others fill windows up
  is_image = jnp.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]], bool)
  filled = fill_image_places(x, features, is_image=is_image, is_real=is_real)
  np.testing.assert_array_equal(filled[..., 0], [[-1, 0, 2, -1, 4], [7, -1, -1, -1, -1]])


def test_a_layout_puts_vectors_and_newlines_in_order():
  features = jnp.arange(8.0).reshape(2, 4, 1)
  layout = jnp.array([[0, 3, NEWLINE, PADDING], [2, NEWLINE, 1, NEWLINE]])
  laid = lay_out(features, layout, jnp.full((1, 1), 9.0))
  np.testing.assert_array_equal(laid[0, :3, 0], [0, 3, 9])
  np.testing.assert_array_equal(laid[1, :, 0], [6, 9, 5, 9])
  np.testing.assert_array_equal(lay_out(features, layout, None)[1, ::2, 0], [6, 5])
