"""A plane of vectors at another size: learned positions of a tower that sees an image of another size than in training.

Both rules are those of `torch.nn.functional.interpolate` without antialiasing. Rows and columns are independent, so a
rule is one matrix per axis, a constant of the two sizes.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from omni_jax.core.arrays import Array, typed

ResamplingRule = Callable[[int, int], np.ndarray]

_CUBIC_SHARPNESS = -0.75  # of Keys' kernel (IEEE ASSP 29, 1981), as in PyTorch; others use -0.5


@typed
def resample(
  plane: Float[Array, "rows columns D"], *, rows: int, columns: int, rule: ResamplingRule
) -> Float[Array, "Y X D"]:
  """Returns the plane with `rows` by `columns` vectors; one of the same size comes back untouched."""
  if plane.shape[:2] == (rows, columns):
    return plane
  vertical, horizontal = rule(rows, plane.shape[0]), rule(columns, plane.shape[1])
  return jnp.einsum("yr,xc,rcd->yxd", vertical, horizontal, plane.astype(jnp.float32)).astype(plane.dtype)


def bicubic(outputs: int, inputs: int) -> np.ndarray:
  """Returns the matrix [outputs, inputs] of bicubic interpolation between the middles of cells (`align_corners=False`).

  Beyond the border the outermost value repeats.
  """
  matrix = np.zeros((outputs, inputs))
  places = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
  for tap in range(-1, 3):
    source = np.floor(places).astype(int) + tap
    np.add.at(matrix, (np.arange(outputs), source.clip(0, inputs - 1)), _keys(np.abs(places - source)))
  return matrix.astype(np.float32)


def bilinear_corners(outputs: int, inputs: int) -> np.ndarray:
  """Returns the matrix [outputs, inputs] of linear interpolation from corner to corner (`align_corners=True`)."""
  places = np.linspace(0, inputs - 1, outputs) if outputs > 1 else np.zeros(1)
  distances = np.abs(places[:, None] - np.arange(inputs))
  return np.maximum(0, 1 - distances).astype(np.float32)


def _keys(distance: np.ndarray) -> np.ndarray:
  a = _CUBIC_SHARPNESS
  near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
  far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
  return np.where(distance <= 1, near, far)
