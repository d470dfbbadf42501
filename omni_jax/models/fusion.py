"""Where images enter the sequence: image vectors take the places of image tokens."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from omni_jax.core.arrays import Array, Hidden, typed
from omni_jax.prepare.tiles import NEWLINE


class Seen(NamedTuple):
  """The vectors of a row's images, [B, cells, D], and which of them takes which image place, int [B, places]."""

  vectors: Array
  layout: Array


@typed
def fill_image_places(
  x: Hidden,
  vectors: Float[Array, "B cells D"],
  layout: Int[Array, "B places"],
  *,
  is_image: Bool[Array, "B T"],
  newline: Float[Array, "1 D"] | None = None,
) -> Hidden:
  """Returns `x` with the k-th image place of each row taken by what the k-th entry of its layout names.

  An entry is the number of a vector or NEWLINE; the caller packs as many as there are places, more are not read.

      tokens    <s> <i> <i> <i> what is this <i>
      layout        0   1   NEWLINE          4
  """
  order = jnp.maximum(jnp.cumsum(is_image, axis=1) - 1, 0)
  number = jnp.take_along_axis(layout, order, axis=1, mode="clip")
  taken = jnp.take_along_axis(vectors, jnp.maximum(number, 0)[..., None], axis=1)
  if newline is not None:
    taken = jnp.where((number == NEWLINE)[..., None], newline, taken)
  return jnp.where(is_image[..., None], taken, x)


@typed
def real_in_order(is_real: Bool[Array, "B cells"]) -> Int[Array, "B cells"]:
  """Returns the layout of real vectors in their order, wherever padding stands between them."""
  return jnp.argsort(~is_real, axis=1, stable=True)
