"""Rotary positions (arXiv 2104.09864), rotate-half form, for text (one axis) and for images (row and column).

The angles of a batch are computed once, in float32, and handed to every layer.
"""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from omni_jax.core.arrays import Array, PatchPositions, Positions, typed


class Rotation(NamedTuple):
  """Cosine and sine of every position's angles, each [B, T, H / 2]."""

  cosine: Array
  sine: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
  """Llama 3.1's longer context: slow angles become slower, fast ones stay (arXiv 2407.21783, section 3.4.2).

  Attributes:
    factor: what angles of long wavelength are divided by.
    low_frequency_factor: wavelengths above `original_positions / low_frequency_factor` are divided whole.
    high_frequency_factor: wavelengths below `original_positions / high_frequency_factor` are left alone; between the
      two the divisor changes smoothly.
    original_positions: context length of pretraining.
  """

  factor: float
  low_frequency_factor: float
  high_frequency_factor: float
  original_positions: int

  def __post_init__(self):
    assert self.low_frequency_factor < self.high_frequency_factor, f"no wavelengths between the two factors of {self}"

  def apply(self, frequencies: Array) -> Array:
    """Returns the scaled angles of one position."""
    turns = self.original_positions * frequencies / (2 * math.pi)  # within the original context
    kept = (turns - self.low_frequency_factor) / (self.high_frequency_factor - self.low_frequency_factor)
    kept = jnp.clip(kept, 0.0, 1.0)
    return frequencies * (kept + (1 - kept) / self.factor)


@typed
def text_rotation(
  positions: Positions, *, head_dim: int, theta: float, scaling: Llama3Scaling | None = None
) -> Rotation:
  """Returns the rotation of one-dimensional positions: angle `position * theta ** (-2 i / H)`, i < H / 2."""
  frequencies = _frequencies(head_dim, theta)
  return _rotation(positions[..., None] * (frequencies if scaling is None else scaling.apply(frequencies)))


@typed
def image_rotation(positions: PatchPositions, *, head_dim: int, theta: float) -> Rotation:
  """Returns the rotation of (row, column) positions, as Qwen2-VL: H / 4 angles from the row, H / 4 from the column."""
  angles = positions[..., None] * _frequencies(head_dim // 2, theta)
  return _rotation(angles.reshape(*positions.shape[:-1], head_dim // 2))


@typed
def rotate(x: Float[Array, "B N T H"], rotation: Rotation) -> Float[Array, "B N T H"]:
  """Returns `x` with the pair (i, i + H / 2) of every head turned by the angle i of its position, in float32."""
  cosine, sine = rotation.cosine[:, None], rotation.sine[:, None]
  first, second = jnp.split(x, 2, axis=-1)
  turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
  return turned.astype(x.dtype)


def _frequencies(dim: int, theta: float) -> Array:
  return theta ** (-jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)


def _rotation(angles: Array) -> Rotation:
  return Rotation(jnp.cos(angles), jnp.sin(angles))
