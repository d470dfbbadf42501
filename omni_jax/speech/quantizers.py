"""Finite scalar quantisation (arXiv 2309.15505), as EMOVA's speech tokenizer uses it: four dimensions of eight levels.

A bounded code z becomes levels q = round(tanh(z + shift) * half - offset) in {-L/2, ..., L/2 - 1} (even L); the code is
q / (L // 2) and the index sum_d (q_d + L_d // 2) * product of the earlier L: dimension 0 is the least significant.
The shift is tan(offset / half), as in the paper's released code (some ports use atanh, which moves the boundaries).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Codes, Int, Units, typed

_EPS = 1e-3  # keeps the outermost levels inside the reach of tanh (arXiv 2309.15505, appendix)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantizer:
  """Levels of each code dimension."""

  levels: tuple[int, ...]

  def __post_init__(self):
    assert self.levels and min(self.levels) >= 2, f"levels {self.levels} must each be at least 2"

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return math.prod(self.levels)

  @property
  def basis(self) -> np.ndarray:
    """The weight of each dimension in the unit index, int32 [E]."""
    return np.cumprod((1, *self.levels[:-1])).astype(np.int32)

  @property
  def half(self) -> np.ndarray:
    """Half of the levels, rounded down, int32 [E]."""
    return np.asarray(self.levels, np.int32) // 2

  @typed
  def quantise(self, z: Codes) -> Codes:
    """Returns codes in [-1, 1] on the grid; the gradient is that of the bounded value (straight through)."""
    bounded = self.bound(z)
    rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
    return rounded / self.half

  def bound(self, z: Codes) -> Codes:
    """Returns z squeezed into the range of the levels, before rounding."""
    levels = np.asarray(self.levels, np.float32)
    reach = (levels - 1) * (1 - _EPS) / 2
    offset = np.where(levels % 2 == 0, 0.5, 0.0)
    shift = np.tan(offset / reach)
    return jnp.tanh(z + shift.astype(np.float32)) * reach.astype(np.float32) - offset.astype(np.float32)

  @typed
  def codes_to_units(self, codes: Codes) -> Units:
    """Returns the unit of each code; codes lie on the grid that `quantise` returns."""
    digits = jnp.round(codes * self.half).astype(jnp.int32) + self.half
    return jnp.sum(digits * self.basis, axis=-1)

  @typed
  def units_to_codes(self, units: Units) -> Codes:
    """Returns the code of each unit, the inverse of `codes_to_units`."""
    return (self.units_to_digits(units) - self.half) / self.half

  @typed
  def units_to_digits(self, units: Units) -> Int[Array, "B U E"]:
    """Returns the level of each dimension, 0 .. L - 1: near digits are near sounds."""
    return units[..., None] // self.basis % np.asarray(self.levels, np.int32)
