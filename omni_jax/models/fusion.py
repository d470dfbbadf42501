"""Where images enter the sequence: image vectors take the places of image tokens."""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from omni_jax.core.arrays import Array, Hidden, typed


@typed
def fill_image_places(x: Hidden, features: Float[Array, "B cells D"], *, is_image: Bool[Array, "B T"]) -> Hidden:
  """Returns `x` with the k-th image place of each row taken by the k-th vector of the row.

  The caller packs as many vectors as places; left-over vectors (padding) are not used.

      tokens    <s> <i> <i> what is this <i>
      features        0   1               2
  """
  order = jnp.maximum(jnp.cumsum(is_image, axis=1) - 1, 0)
  taken = jnp.take_along_axis(features, order[..., None], axis=1, mode="clip")
  return jnp.where(is_image[..., None], taken, x)
