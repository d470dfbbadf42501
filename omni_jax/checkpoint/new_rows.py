"""Rows for new tokens at the end of a trained table, as `transformers` draws them when a vocabulary grows.

Two ways, by version (modeling_utils.py, `resize_token_embeddings`): from 4.46 on near the mean of the old rows, so that
a new token is at first as likely as an average one (Hewitt, nlp.stanford.edu/~johnhew/vocab-expansion.html); before, as
in a new table. EMOVA's released bases were made by one of the two; after training it no longer shows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from omni_jax.core.arrays import Array, Key, typed
from omni_jax.core.errors import UserError

DRAWS = ("mean", "normal")

_SHARE = 1e-9  # of the old rows' covariance
_DEVIATION = 0.02  # `initializer_range` of Qwen2 and Llama
_CHUNK = 8192  # rows in float32 at once: a table of 72B takes 5 GB in all


@typed
def draw_rows(table: Float[Array, "old D"], *, number: int, key: Key, draw: str = "mean") -> Float[Array, "new D"]:
  """Returns `number` rows to stand behind those of `table`, in its dtype.

  Args:
    table: trained rows, all of which stay, the rows at its end that no token used (as in EMOVA's 7B and 72B) too.
    number: of new rows.
    key: random key.
    draw: `mean`, from a normal distribution with the old rows' mean and 1e-9 of their covariance; or `normal`, N(0,
      0.02).

  Raises:
    UserError: another `draw`.
  """
  if draw not in DRAWS:
    raise UserError(
      f"unknown draw {draw!r}", where="new rows", rule=f"one of {', '.join(DRAWS)}", remedy="choose one of these"
    )
  if draw == "normal":
    return (_DEVIATION * jax.random.normal(key, (number, table.shape[1]))).astype(table.dtype)
  return _near_mean(table, number, key).astype(table.dtype)


def _near_mean(old: Array, number: int, key: Key) -> Array:
  """Returns draws from N(mean, share * covariance); sums of old rows have that covariance, whatever its rank."""
  mean, spread, weight = 0.0, 0.0, 0.0
  for start in range(0, len(old), _CHUNK):
    rows = old[start : start + _CHUNK].astype(jnp.float32)
    draws = jax.random.normal(jax.random.fold_in(key, start), (number, len(rows)))
    mean, spread, weight = mean + rows.sum(0) / len(old), spread + draws @ rows, weight + draws.sum(1, keepdims=True)
  return mean + (spread - weight * mean) * (_SHARE / len(old)) ** 0.5
