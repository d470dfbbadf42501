"""How a parameter is made: a float array, its initial distribution, and the logical meaning of its axes."""

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Key


def weight(key: Key, shape: tuple[int, ...], *, axes: tuple[str | None, ...], fan_in: int) -> nnx.Param:
  """Returns a weight drawn from a normal distribution of standard deviation `fan_in ** -0.5`, cut at two deviations.

  Args:
    key: random key.
    shape: dimensions.
    axes: logical axis of each dimension (see `core.sharding.RULES`), None for one that is never split.
    fan_in: number of inputs that one output sums.
  """
  assert len(axes) == len(shape), f"axes {axes} do not name the dimensions of shape {shape}"
  return nnx.Param(jax.random.truncated_normal(key, -2.0, 2.0, shape) * fan_in**-0.5, axes=axes)


def constant(value: float, shape: tuple[int, ...], *, axes: tuple[str | None, ...]) -> nnx.Param:
  """Returns a parameter that starts at one value everywhere: biases (0), norm scales (1)."""
  assert len(axes) == len(shape), f"axes {axes} do not name the dimensions of shape {shape}"
  return nnx.Param(jnp.full(shape, value, jnp.float32), axes=axes)


def table(key: Key, shape: tuple[int, int], *, axes: tuple[str | None, ...], deviation: float = 0.02) -> nnx.Param:
  """Returns an embedding table drawn from N(0, deviation)."""
  return nnx.Param(jax.random.normal(key, shape) * deviation, axes=axes)
