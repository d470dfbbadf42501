"""Where images enter the sequence: image vectors take the places of image tokens."""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from omni_jax.core.arrays import Array, Hidden, typed


@typed
def fill_image_places(
  x: Hidden, features: Float[Array, "B cells D"], *, is_image: Bool[Array, "B T"], is_real: Bool[Array, "B cells"]
) -> Hidden:
  """Returns `x` with the k-th image place of each row taken by the k-th real vector of the row.

  The caller packs as many real vectors as places; the others are padding, wherever they stand.

      tokens    <s> <i> <i> what is this <i>
      features        0   1   .   .       4
  """
  real_cells = jnp.argsort(~is_real, axis=1, stable=True)
  order = jnp.maximum(jnp.cumsum(is_image, axis=1) - 1, 0)
  cell = jnp.take_along_axis(real_cells, order, axis=1, mode="clip")
  taken = jnp.take_along_axis(features, cell[..., None], axis=1)
  return jnp.where(is_image[..., None], taken, x)
