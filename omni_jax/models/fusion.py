"""Where images enter the sequence: image vectors take the places of image tokens."""

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from omni_jax.core.arrays import Array, Hidden, typed
from omni_jax.prepare.tiles import NEWLINE


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


@typed
def lay_out(
  features: Float[Array, "B cells D"], layout: Int[Array, "B places"], newline: Float[Array, "1 D"] | None
) -> Float[Array, "B places D"]:
  """Returns the vectors of a row's tiles in the order of a layout (`prepare.tiles.tile_layout`).

  A place of the layout is the number of a vector or NEWLINE; what PADDING gets is not meant to be read.

      layout    0 1 NEWLINE 2 3 NEWLINE PADDING          lines of two vectors, each ended by `newline`
  """
  laid = jnp.take_along_axis(features, jnp.maximum(layout, 0)[..., None], axis=1)
  return laid if newline is None else jnp.where((layout == NEWLINE)[..., None], newline, laid)
