"""The written-out gradients are those of the plain formulas, at every dilation, padding and angle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.channelwise import SMALLEST_SLOPE, depthwise, snake
from tests.speech.small_vits import draw


def plain_snake(x, alpha):
  return x + jnp.square(jnp.sin(alpha * x)) / (alpha + SMALLEST_SLOPE)


def plain_depthwise(x, kernel, dilation, sides):
  return jax.lax.conv_general_dilated(
    x,
    kernel[:, None],
    window_strides=(1,),
    padding=((sides, sides),),
    rhs_dilation=(dilation,),
    dimension_numbers=("NHC", "HIO", "NHC"),
    feature_group_count=x.shape[-1],
  )


def with_gradients(function, *arrays):
  """The result, and the gradients of a sum that weighs every number of it differently."""
  made, back = jax.vjp(function, *arrays)
  return made, *back(draw(made.shape, seed=9))


def test_the_snake_and_its_slopes_are_those_of_the_sine():
  x, alpha = 3 * draw((2, 40, 6)), jnp.abs(draw((6,), seed=1)) + 0.3
  ours, theirs = (with_gradients(function, x, alpha) for function in (snake, plain_snake))
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize("largest", [1.0, 100.0, 3000.0])
def test_the_snake_is_exact_at_wide_angles(largest):
  x = np.linspace(-largest, largest, 2001, dtype=np.float32)[None, :, None]
  exact = np.sin(x.astype(np.float64)) ** 2
  np.testing.assert_allclose(snake(jnp.asarray(x), jnp.ones(1)) - x, exact, atol=1e-6 + 1e-7 * largest)


def test_the_snake_keeps_half_precision_and_what_is_no_number():
  assert snake(jnp.ones((1, 2, 3), jnp.bfloat16), jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
  assert np.isnan(snake(jnp.full((1, 1, 1), jnp.inf), jnp.ones(1))).all()


@pytest.mark.parametrize(("taps", "dilation", "sides"), [(7, 1, 3), (7, 3, 9), (3, 9, 9), (4, 2, 1), (1, 1, 0)])
def test_depthwise_and_its_slopes_are_those_of_a_grouped_convolution(taps, dilation, sides):
  arrays = draw((2, 24, 5)), draw((taps, 5), seed=1)
  ours = with_gradients(lambda x, kernel: depthwise(x, kernel, dilation=dilation, sides=sides), *arrays)
  theirs = with_gradients(lambda x, kernel: plain_depthwise(x, kernel, dilation, sides), *arrays)
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6 * max(np.abs(other).max(), 1))
