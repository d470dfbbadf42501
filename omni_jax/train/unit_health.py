"""Signs of health of a speech tokenizer or a voice while it trains: use of codes, what is read from them, durations.

All are sums over one batch, computed on the device beside the loss; no gradient flows through them.
"""

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Scalar, Sums


def code_use(units: Array, num_units: Array, *, size: int) -> Sums:
  """Returns `units_used`, how many different units a batch holds, and their `perplexity`, each as (value, 1).

  One unit for everything, or a perplexity that falls towards 1, is a codebook that collapses.

  Args:
    units: [B, U]; those at and after `num_units` [B] do not count.
    num_units: of each row.
    size: of the codebook.
  """
  valid = jnp.arange(units.shape[1]) < num_units[:, None]
  used, perplexity = use_of_codes(jnp.zeros(size).at[units].add(valid.astype(jnp.float32)))
  one = jnp.ones(())
  return {"units_used": (used, one), "perplexity": (perplexity, one)}


def use_of_codes(counts: Array) -> tuple[Scalar, Scalar]:
  """Returns how many codes occur at all, and the perplexity of their distribution, 1 to their number."""
  shares = counts / jnp.maximum(counts.sum(), 1.0)
  entropy = -jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1.0)), 0.0).sum()
  return (counts > 0).sum().astype(jnp.float32), jnp.exp(entropy)


def durations_apart(predicted: Array, real: Array, counted: Array) -> Sums:
  """Returns how well predicted durations agree with the real ones, both in frames, where `counted` is 1.

  `duration_apart` is the mean absolute difference, `duration_ratio` the length of the speech, both over the real one:
  0 and 1 are best.
  """
  length = (real * counted).sum()
  apart = (jnp.abs(predicted - real) * counted).sum()
  return {"duration_apart": (apart, length), "duration_ratio": ((predicted * counted).sum(), length)}


def phone_errors(logits: Array, num_units: Array, *, phones: Array, num_phones: Array) -> tuple[Array, Array]:
  """Returns the insertions, deletions and substitutions of greedy CTC reading, and the phones they are counted on.

  Args:
    logits: [B, U, K + 1], the blank last.
    num_units: [B].
    phones: [B, N], those from `num_phones` [B] on are not read.
    num_phones: [B]; a row without phones counts nothing.
  """
  best = jax.lax.stop_gradient(logits).argmax(-1)
  before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
  said = (best != before) & (best != logits.shape[-1] - 1) & (jnp.arange(best.shape[1]) < num_units[:, None])
  places = jnp.arange(phones.shape[1] + 1)

  def hear(row: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
    """Moves [B, N + 1], the errors of what was heard so far against each beginning of the phones, by one frame."""
    phone, is_said = frame
    replaced = row[:, :-1] + (phones != phone[:, None])
    kept = jnp.concatenate([row[:, :1] + 1, jnp.minimum(row[:, 1:] + 1, replaced)], axis=1)
    # A phone left out may follow another: the least of `kept[i] + (j - i)` over i up to j.
    kept = jax.lax.cummin(kept - places, axis=1) + places
    return jnp.where(is_said[:, None], kept, row), None

  start = jnp.broadcast_to(places, (phones.shape[0], places.size))
  errors = jax.lax.scan(hear, start, (best.T, said.T))[0]
  errors = jnp.take_along_axis(errors, num_phones[:, None], axis=1)[:, 0]
  counted = jnp.where(num_phones > 0, errors, 0).sum()
  return counted.astype(jnp.float32), num_phones.sum().astype(jnp.float32)
