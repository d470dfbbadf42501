"""Which phone each frame belongs to: a hidden Markov model with one state per phone, silence only at the two ends.

    states   sil  h  e  l  oU  sil        each may last any number of frames; the silences may be left out
    frames   0 0 0 1 1 2 2 3 3 4 4 4 5

Unlike CTC it has no blank between phones, so every frame of speech belongs to a phone and not only the one where a
peak stands. That is what makes targets for single frames of it.
"""

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array

_IMPOSSIBLE = -1e30


def align(log_probs: Array, num_frames: Array, *, phones: Array, num_phones: Array) -> tuple[Array, Array]:
  """Returns how likely each frame is in each of the S = N + 2 states, [B, T, S], and the labels of the states, [B, S].

  No gradient flows through it. `-(occupancy * at_labels(log_probs, labels)).sum()` has the gradient of the negative log
  likelihood of the phones summed over all alignments, which is how a caller trains with it.

  Args:
    log_probs: [B, T, K + 1], of the phones and, last, of silence.
    num_frames: [B]; a row with fewer frames than phones has no alignment, and its occupancy is zero.
    phones: [B, N], those from `num_phones` on are not read.
    num_phones: [B].
  """
  labels = _labels(phones, num_phones, silence=log_probs.shape[-1] - 1)
  scores = jax.lax.stop_gradient(at_labels(log_probs, labels))
  occupancy = jax.vmap(jax.grad(log_likelihood))(scores, num_frames, num_phones)
  possible = (num_frames >= num_phones) & (num_phones > 0)
  return jnp.where(possible[:, None, None], occupancy, 0.0), labels


def at_labels(values: Array, labels: Array) -> Array:
  """Returns [B, T, S], the values [B, T, K + 1] of each frame at the labels [B, S]."""
  return jnp.take_along_axis(values, labels[:, None, :], axis=-1)


def _labels(phones: Array, num_phones: Array, *, silence: int) -> Array:
  padded = jnp.pad(phones, ((0, 0), (1, 1)), constant_values=silence)
  places = jnp.arange(padded.shape[1])
  return jnp.where(places <= num_phones[:, None], padded, silence)


def log_likelihood(scores: Array, num_frames: Array, num_phones: Array) -> Array:
  """Returns that of one row, scores [T, S], summed over all ways through its states."""
  states = jnp.arange(scores.shape[1])
  first = jnp.where(states < 2, scores[0], _IMPOSSIBLE)

  def move(alpha: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
    score, is_real = frame
    entered = jnp.concatenate([jnp.full((1,), _IMPOSSIBLE), alpha[:-1]])
    return jnp.where(is_real, jnp.logaddexp(alpha, entered) + score, alpha), None

  is_real = jnp.arange(1, scores.shape[0]) < num_frames
  alpha = jax.lax.scan(move, first, (scores[1:], is_real))[0]
  ends = (states == num_phones) | (states == num_phones + 1)
  return jax.nn.logsumexp(jnp.where(ends, alpha, _IMPOSSIBLE))
