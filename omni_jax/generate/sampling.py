"""Logits -> the next token: the best of those allowed, or a draw from the likeliest of them."""

import dataclasses

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key
from omni_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """How a token is chosen.

  Attributes:
    temperature: 0 takes the best token always.
    top_p: draws among the likeliest tokens that together have this probability; 1 draws among all.
  """

  temperature: float = 0.0
  top_p: float = 1.0

  def __post_init__(self):
    if self.temperature < 0 or not 0 < self.top_p <= 1:
      raise UserError(
        f"temperature {self.temperature}, top_p {self.top_p}",
        where="sampling",
        rule="temperature is at least 0 and top_p within 0 (not included) and 1",
        remedy="for example temperature 0, or temperature 0.8 with top_p 0.9",
      )


def choose(logits: Array, allowed: Array, *, sampling: Sampling, key: Key) -> Array:
  """Returns one token a row.

  Args:
    logits: [B, V].
    allowed: bool [B, V], at least one true in each row.
    sampling: how to choose.
    key: random key; each row draws with its own part of it.
  """
  masked = jnp.where(allowed, logits.astype(jnp.float32), -jnp.inf)
  if sampling.temperature == 0:
    return jnp.argmax(masked, axis=-1).astype(jnp.int32)
  masked = masked / sampling.temperature
  if sampling.top_p < 1:
    masked = _likeliest(masked, sampling.top_p)
  keys = jax.random.split(key, logits.shape[0])
  return jax.vmap(jax.random.categorical)(keys, masked).astype(jnp.int32)


def _likeliest(logits: Array, share: float) -> Array:
  """Returns `logits` without those after the first that together reach `share`."""
  ordered = jnp.sort(logits, axis=-1)[:, ::-1]
  probabilities = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  least = jnp.min(jnp.where(before < share, ordered, jnp.inf), axis=-1, keepdims=True)
  return jnp.where(logits >= least, logits, -jnp.inf)
