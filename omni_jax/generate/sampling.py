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
    key: random key.
  """
  masked = jnp.where(allowed, logits.astype(jnp.float32), -jnp.inf)
  if sampling.temperature == 0:
    return jnp.argmax(masked, axis=-1).astype(jnp.int32)
  return _draw(jax.nn.softmax(masked / sampling.temperature), share=sampling.top_p, key=key)


def _draw(probabilities: Array, *, share: float, key: Key) -> Array:
  """Returns a draw a row from the likeliest ids that together reach `share`: [B, V] -> [B].

  One uniform number a row and a running sum, where Gumbel noise would take a random number for every id.
  """
  if share < 1:
    probabilities = _likeliest(probabilities, share)
  sums = jnp.cumsum(probabilities, axis=-1)
  total = sums[:, -1:]
  # Below the total even where the product is rounded up to it: the id that is found then has a probability above 0.
  place = jnp.minimum(jax.random.uniform(key, total.shape) * total, jnp.nextafter(total, 0.0))
  return jnp.argmax(sums > place, axis=-1).astype(jnp.int32)


def _likeliest(probabilities: Array, share: float) -> Array:
  """Returns `probabilities` without those after the first that together reach `share`.

  Sorting a vocabulary for every token costs more than a small model's step on a CPU, so the least probability that
  stays is found by halving: floats above 0 are ordered as their bits are, so 31 sums find it exactly.
  """
  bits = jax.lax.bitcast_convert_type(probabilities, jnp.int32)

  def halve(step, least):
    higher = least | (1 << (30 - step))
    reached = jnp.sum(jnp.where(bits >= higher, probabilities, 0.0), axis=-1, keepdims=True) >= share
    return jnp.where(reached, higher, least)

  least = jax.lax.fori_loop(0, 31, halve, jnp.zeros((*probabilities.shape[:-1], 1), jnp.int32))
  return jnp.where(bits >= least, probabilities, 0.0)
