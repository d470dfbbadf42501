import jax.numpy as jnp
import numpy as np

from omni_jax.models.fusion import fill_image_places, real_in_order
from omni_jax.prepare.tiles import NEWLINE

X = -jnp.ones((2, 5, 1))
VECTORS = jnp.arange(10.0).reshape(2, 5, 1)
IS_IMAGE = jnp.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]], bool)


def test_places_are_filled_in_order_row_by_row():
  is_real = jnp.array([[1, 0, 1, 0, 1], [0, 0, 1, 0, 0]], bool)  # the others fill windows up
  filled = fill_image_places(X, VECTORS, real_in_order(is_real), is_image=IS_IMAGE)
  np.testing.assert_array_equal(filled[..., 0], [[-1, 0, 2, -1, 4], [7, -1, -1, -1, -1]])


def test_a_layout_puts_vectors_and_newlines_in_order():
  layout = jnp.array([[3, NEWLINE, 0, 0], [2, NEWLINE, 1, NEWLINE]])
  filled = fill_image_places(X, VECTORS, layout, is_image=IS_IMAGE, newline=jnp.full((1, 1), 9.0))
  np.testing.assert_array_equal(filled[..., 0], [[-1, 3, 9, -1, 0], [7, -1, -1, -1, -1]])
