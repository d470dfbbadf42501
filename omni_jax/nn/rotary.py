"""Rotary positions (arXiv 2104.09864), rotate-half form, for text (one axis) and for images (row and column).

The angles of a batch are computed once, in float32, and handed to every layer.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from omni_jax.core.arrays import Array, PatchPositions, Positions, typed


class Rotation(NamedTuple):
  """Cosine and sine of every position's angles, each [B, T, H / 2]."""

  cosine: Array
  sine: Array


@typed
def text_rotation(positions: Positions, *, head_dim: int, theta: float) -> Rotation:
  """Returns the rotation of one-dimensional positions: angle `position * theta ** (-2 i / H)`, i < H / 2."""
  return _rotation(positions[..., None] * _frequencies(head_dim, theta))


@typed
def image_rotation(positions: PatchPositions, *, head_dim: int, theta: float) -> Rotation:
  """Returns the rotation of (row, column) positions, as Qwen2-VL: H / 4 angles from the row, H / 4 from the column."""
  angles = positions[..., None] * _frequencies(head_dim // 2, theta)
  return _rotation(angles.reshape(*positions.shape[:-1], head_dim // 2))


@typed
def rotate(x: Float[Array, "B N T H"], rotation: Rotation) -> Float[Array, "B N T H"]:
  """Returns `x` with the pair (i, i + H / 2) of every head turned by the angle i of its position."""
  cosine, sine = rotation.cosine[:, None], rotation.sine[:, None]
  first, second = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _frequencies(dim: int, theta: float) -> Array:
  return theta ** (-jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)


def _rotation(angles: Array) -> Rotation:
  return Rotation(jnp.cos(angles), jnp.sin(angles))
