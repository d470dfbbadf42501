"""Which frame belongs to which unit: monotonic alignment search (Glow-TTS, arXiv 2005.11129, algorithm 1), in JAX.

Of all ways to give every frame one unit, from the first to the last without going back or leaving one out, the one of
the greatest sum of scores. Frames are scanned, units are a vector: best[u] is the greatest sum that ends at unit u,

    best'[u] = score[t, u] + max(best[u], best[u - 1])

and one bit for each frame and unit keeps which of the two it was. Where both are equal the unit stays, as in VITS'
`monotonic_align`. The search carries no gradient.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, typed
from omni_jax.core.errors import UserError

_IMPOSSIBLE = -1e30  # any sum of scores is greater

Latents = Float[Array, "B T C"]
Statistics = Float[Array, "B U C"]
Counts = Int[Array, "B"]


@typed
def log_likelihoods(latents: Latents, mean: Statistics, log_deviation: Statistics) -> Float[Array, "B T U"]:
  """Returns the log density of every frame under the prior of every unit (independent Gaussian channels)."""
  precision = jnp.exp(-2.0 * log_deviation)
  constant = -0.5 * math.log(2.0 * math.pi) - log_deviation - 0.5 * mean**2 * precision
  squares = jnp.einsum("btc,buc->btu", -0.5 * latents**2, precision)
  return constant.sum(-1)[:, None] + squares + jnp.einsum("btc,buc->btu", latents, mean * precision)


@typed
def align(scores: Float[Array, "B T U"], num_units: Counts, num_frames: Counts) -> Int[Array, "B T"]:
  """Returns the unit of every frame of the best monotonic alignment; frames past `num_frames` hold U, which is none.

  Args:
    scores: of each frame for each unit, in float32; what lies past the counts is not read.
    num_units: of each row, at least one.
    num_frames: of each row, at least `num_units` (`check_alignable` tells a user; here nothing can be told).
  """
  scores = jax.lax.stop_gradient(scores).astype(jnp.float32)
  rows, length, width = scores.shape
  units = jnp.arange(width)

  def forward(best: Array, score: Array) -> tuple[Array, Array]:
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=_IMPOSSIBLE)
    moved = before > best
    return jnp.where(moved, before, best) + score, moved

  first = jnp.where(units == 0, scores[:, 0], _IMPOSSIBLE)
  _, moved = jax.lax.scan(forward, first, scores[:, 1:].swapaxes(0, 1))
  moved = jnp.concatenate([jnp.zeros((1, rows, width), bool), moved])

  def backward(unit: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
    time, bits = step
    inside = time < num_frames
    back = jnp.take_along_axis(bits, unit[:, None], axis=1)[:, 0] & inside
    return unit - back, jnp.where(inside, unit, width)

  _, path = jax.lax.scan(backward, num_units - 1, (jnp.arange(length), moved), reverse=True)
  return path.T


@typed
def durations_of(path: Int[Array, "B T"], *, max_units: int) -> Int[Array, "B U"]:
  """Returns how many frames each unit has on a path of `align`."""
  return jnp.sum(path[..., None] == jnp.arange(max_units), axis=1)


@typed
def spread(statistics: Statistics, path: Int[Array, "B T"]) -> Latents:
  """Returns the rows of `statistics` that the frames of a path belong to, zero where a frame has no unit."""
  last = statistics.shape[1] - 1
  rows = jnp.take_along_axis(statistics, jnp.minimum(path, last)[..., None], axis=1)
  return jnp.where((path <= last)[..., None], rows, 0.0)


def path_of(durations: np.ndarray, *, num_frames: int) -> np.ndarray:
  """Returns the unit of each of `num_frames` frames, int32, when unit u has durations[u]; the rest hold their number.

  >>> path_of(np.array([2, 0, 1]), num_frames=5)
  array([0, 0, 2, 3, 3], dtype=int32)
  """
  return np.searchsorted(np.cumsum(durations), np.arange(num_frames), side="right").astype(np.int32)


def check_alignable(num_units: np.ndarray, num_frames: np.ndarray, *, where: object) -> None:
  """Raises a UserError if a row has no unit, or fewer frames than units."""
  for row, (units, frames) in enumerate(zip(num_units, num_frames, strict=True)):
    if not 1 <= units <= frames:
      raise UserError(
        f"row {row} has {units} units and {frames} frames",
        where=where,
        rule="every unit lasts at least one frame, and there is at least one unit",
        remedy="leave the recording out, or use units of this recording",
      )
