"""Monotone rational-quadratic splines with linear tails, in both directions (Durkan et al., arXiv 1906.04032).

A spline maps [-bound, bound] onto itself through K bins, each a quotient of two parabolas that meet with equal slopes;
outside it is the identity. Its 3 K - 1 numbers are, before any of it is normalised, K widths, K heights and the slopes
at the K - 1 inner knots; the slopes at both ends are one, so that the tails join smoothly.

K is the number of bins here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from omni_jax.core.arrays import Array, typed

LEAST_WIDTH = LEAST_HEIGHT = LEAST_SLOPE = 1e-3  # of a bin as a share of the whole, and of a knot; as VITS has them
_SLOPE_ONE = float(np.log(np.expm1(1.0 - LEAST_SLOPE)))  # what softplus turns into a slope of one

Values = Float[Array, "*batch"]


class Spline(NamedTuple):
  """Places and slopes of the knots, K + 1 of each."""

  x: Float[Array, "*batch KK"]
  y: Float[Array, "*batch KK"]
  slopes: Float[Array, "*batch KK"]


class Mapped(NamedTuple):
  """The image of each value, and the logarithm of the slope of the map there."""

  values: Values
  log_slopes: Values


class _Bin(NamedTuple):
  """Of the bin that a value falls into: left knot, size, mean slope, slopes at its ends."""

  x: Values
  y: Values
  width: Values
  height: Values
  slope: Values
  left: Values
  right: Values


@typed
def make_spline(numbers: Float[Array, "*batch N"], *, bound: float, divisor: float) -> Spline:
  """Returns the spline of N = 3 K - 1 numbers.

  Args:
    numbers: what a network predicts: widths, heights, inner slopes.
    bound: half the length of the interval that the spline bends.
    divisor: of widths and heights before their softmax; VITS takes the root of the network's width.
  """
  bins = (numbers.shape[-1] + 1) // 3
  assert 3 * bins - 1 == numbers.shape[-1], f"{numbers.shape[-1]} numbers are no spline: it has 3 K - 1"
  widths, heights, inner = jnp.split(numbers, [bins, 2 * bins], axis=-1)
  ends = jnp.full((*inner.shape[:-1], 1), _SLOPE_ONE, inner.dtype)
  slopes = LEAST_SLOPE + jax.nn.softplus(jnp.concatenate([ends, inner, ends], axis=-1))
  x = _knots(widths / divisor, bound=bound, least=LEAST_WIDTH)
  return Spline(x, _knots(heights / divisor, bound=bound, least=LEAST_HEIGHT), slopes)


@typed
def bend(spline: Spline, x: Values) -> Mapped:
  """Returns the spline at `x`."""
  inside = jnp.clip(x, spline.x[..., 0], spline.x[..., -1])
  here = _bin(spline, spline.x, inside)
  place = (inside - here.x) / here.width
  bow = place * (1 - place)
  fall = here.slope + (here.left + here.right - 2 * here.slope) * bow
  values = here.y + here.height * (here.slope * place**2 + here.left * bow) / fall
  return _with_tails(spline, x, Mapped(values, _log_slope(here, place)))


@typed
def unbend(spline: Spline, y: Values) -> Mapped:
  """Returns the inverse of the spline at `y`, and the logarithm of the slope of the inverse."""
  inside = jnp.clip(y, spline.y[..., 0], spline.y[..., -1])
  here = _bin(spline, spline.y, inside)
  above = inside - here.y
  bent = above * (here.left + here.right - 2 * here.slope)
  a = here.height * (here.slope - here.left) + bent
  b = here.height * here.left - bent
  c = -here.slope * above
  # The root that lies in the bin, in the form that does not cancel; rounding may take the square below zero.
  place = 2 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, 0.0)))
  return _with_tails(spline, y, Mapped(place * here.width + here.x, -_log_slope(here, place)))


def _knots(logits: Array, *, bound: float, least: float) -> Array:
  """Returns K + 1 places from -bound to bound, whose distances are a softmax with a floor."""
  bins = logits.shape[-1]
  assert least * bins < 1, f"{bins} bins leave none of the interval"
  shares = least + (1 - least * bins) * jax.nn.softmax(logits, axis=-1)
  inner = 2 * bound * jnp.cumsum(shares, axis=-1)[..., :-1] - bound
  end = jnp.full((*inner.shape[:-1], 1), bound, inner.dtype)
  return jnp.concatenate([-end, inner, end], axis=-1)


def _bin(spline: Spline, knots: Array, value: Array) -> _Bin:
  index = jnp.sum(value[..., None] >= knots[..., 1:-1], axis=-1)[..., None]

  def at(row: Array) -> Array:
    return jnp.take_along_axis(row, index, axis=-1)[..., 0]

  width, height = at(jnp.diff(spline.x, axis=-1)), at(jnp.diff(spline.y, axis=-1))
  left, right = at(spline.slopes[..., :-1]), at(spline.slopes[..., 1:])
  return _Bin(at(spline.x[..., :-1]), at(spline.y[..., :-1]), width, height, height / width, left, right)


def _log_slope(here: _Bin, place: Array) -> Array:
  bow = place * (1 - place)
  fall = here.slope + (here.left + here.right - 2 * here.slope) * bow
  rise = here.slope**2 * (here.right * place**2 + 2 * here.slope * bow + here.left * (1 - place) ** 2)
  return jnp.log(rise) - 2 * jnp.log(fall)


def _with_tails(spline: Spline, given: Array, mapped: Mapped) -> Mapped:
  bound = spline.x[..., -1]
  inside = (given >= -bound) & (given <= bound)
  return Mapped(jnp.where(inside, mapped.values, given), jnp.where(inside, mapped.log_slopes, 0.0))
