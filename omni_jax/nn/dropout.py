"""Dropout with the key handed in: no key, nothing is left out, so inference needs no mode."""

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key


def drop(x: Array, rate: float, *, key: Key | None) -> Array:
  """Returns `x` with a share `rate` of its numbers set to zero and the rest scaled up; `x` itself without a key."""
  if key is None or not rate:
    return x
  return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def keys_of(key: Key | None, number: int) -> list[Key | None]:
  """Returns as many keys, of one that may be none."""
  return [None] * number if key is None else list(jax.random.split(key, number))
