"""Layers in which every channel goes its own way over many frames [B, T, C]: depthwise convolutions and the snake.

XLA's CPU backend calls sin for one number at a time, and computes what is fused into a reduction, or read at several
offsets, again and again. So the snake is a polynomial, of which vector units compute many at once, and the gradients
are written out: each needs its inputs once, in order, and keeps nothing but them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Hidden

SMALLEST_SLOPE = 1e-9
# pi in three parts (Cephes, Moshier): products of the first two with whole numbers below 4096 are exact in float32.
_PI = tuple(np.float32(part) for part in (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7))


def _fit(wave: str) -> tuple[np.float32, ...]:
  """Returns the coefficients of sine or cosine in the squared angle up to pi / 2, by least squares; 3e-9 apart."""
  angles = np.pi / 2 * np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
  powers = 1 + 2 * np.arange(5) if wave == "sin" else 2 * np.arange(6)
  found = np.linalg.lstsq(angles[:, None] ** powers, getattr(np, wave)(angles), rcond=None)[0]
  return tuple(found.astype(np.float32))


_SIN, _COS = _fit("sin"), _fit("cos")


@jax.custom_vjp
def snake(x: Hidden, alpha: Array) -> Hidden:
  """Returns x + sin(alpha x)^2 / alpha (Ziyin et al., arXiv 2006.08195); `alpha` [C] is the frequency of each channel.

  Within 1e-6 of the exact one up to angles of some thousands, where float32 knows the angle no better.
  """
  sine, _ = _sine_and_cosine(alpha * x)
  return (x + sine * sine * (1 / (alpha + SMALLEST_SLOPE))).astype(jnp.result_type(x, alpha))


def _snake_forward(x: Hidden, alpha: Array) -> tuple[Hidden, tuple[Hidden, Array]]:
  return snake(x, alpha), (x, alpha)


def _snake_backward(kept: tuple[Hidden, Array], slope: Hidden) -> tuple[Hidden, Array]:
  x, alpha = kept
  x, slope = jax.lax.optimization_barrier((x, slope))
  share = 1 / (alpha + SMALLEST_SLOPE)
  sine, cosine = _sine_and_cosine(alpha * x)
  double = 2 * sine * cosine * share
  of_alpha = _frame_sum(slope * (x * double - jnp.square(sine * share)))
  return (slope * (1 + alpha * double)).astype(x.dtype), of_alpha.astype(alpha.dtype)


snake.defvjp(_snake_forward, _snake_backward)


def depthwise(x: Hidden, kernel: Array, *, dilation: int, sides: int) -> Hidden:
  """Returns T + 2 sides - dilation (taps - 1) frames of a convolution of each channel with its own taps.

  Args:
    x: frames.
    kernel: [taps, C].
    dilation: frames between taps.
    sides: zeros on each side, at most dilation (taps - 1).
  """
  return _with_slopes(x, kernel, dilation, sides)


def _depthwise(x: Hidden, kernel: Array, dilation: int, sides: int) -> Hidden:
  return _shifted(_padded(x, sides), kernel, dilation)


def _depthwise_forward(x: Hidden, kernel: Array, dilation: int, sides: int) -> tuple[Hidden, tuple[Hidden, Array]]:
  return _depthwise(x, kernel, dilation, sides), (x, kernel)


def _depthwise_backward(dilation: int, sides: int, kept: tuple[Hidden, Array], slope: Hidden) -> tuple[Hidden, Array]:
  x, kernel = kept
  x, slope = jax.lax.optimization_barrier((x, slope))
  reach = dilation * (len(kernel) - 1)
  of_x = _shifted(_padded(slope, reach - sides), kernel[::-1], dilation)
  padded, of_taps = _padded(x, sides), []
  for tap in range(len(kernel)):
    here = padded[:, tap * dilation : tap * dilation + slope.shape[1]]
    # One tap after the other, so that the memory of one product serves all.
    padded, of_tap = jax.lax.optimization_barrier((padded, _frame_sum(here * slope)))
    of_taps.append(of_tap)
  return of_x, jnp.stack(of_taps)


_with_slopes = jax.custom_vjp(_depthwise, nondiff_argnums=(2, 3))
_with_slopes.defvjp(_depthwise_forward, _depthwise_backward)


def _frame_sum(x: Hidden) -> Array:
  """Returns the sum [C] over rows and frames; on a CPU a product with ones, which reads what it sums once, in order."""
  frames = x.reshape(-1, x.shape[-1])
  return jax.lax.platform_dependent(
    frames, cpu=lambda frames: jnp.ones(len(frames), frames.dtype) @ frames, default=lambda frames: frames.sum(0)
  )


def _padded(x: Hidden, sides: int) -> Hidden:
  return jnp.pad(x, ((0, 0), (sides, sides), (0, 0)))


def _shifted(padded: Hidden, kernel: Array, dilation: int) -> Hidden:
  num_frames = padded.shape[1] - dilation * (len(kernel) - 1)
  taps = (padded[:, tap * dilation : tap * dilation + num_frames] * kernel[tap] for tap in range(len(kernel)))
  return sum(taps, start=jnp.zeros((), padded.dtype))


def _sine_and_cosine(angle: Array) -> tuple[Array, Array]:
  """Returns both up to the same sign, which their product and their squares do not tell."""
  half_turns = jnp.round(angle * np.float32(1 / np.pi))
  for part in _PI:
    angle = angle - half_turns * part
  square = angle * angle
  return angle * _polynomial(_SIN, square), _polynomial(_COS, square)


def _polynomial(coefficients: tuple[np.float32, ...], x: Array) -> Array:
  value = jnp.full_like(x, coefficients[-1])
  for coefficient in coefficients[-2::-1]:
    value = value * x + coefficient
  return value
