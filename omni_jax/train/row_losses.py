"""The loss of a grid of several rows: the cross entropy of each row over its own head, weighed and added.

Rows of one group are heads of one table (Mini-Omni: seven of codes, one of text), so a chunk of columns is one product
for each group. As in `train.losses`, columns in which a group has a target come first and chunks without any are
skipped: a batch of recognition alone never computes a logit of a code.

Reported are loss and accuracy of each row, and of each kind of sample (the task) in each group.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar, Sums
from omni_jax.core.errors import UserError
from omni_jax.train.losses import Chunk, sum_over_targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowLoss:
  """Cross entropy of all rows.

  Attributes:
    kinds: names of the numbers 1, 2, ... in `target_kind`: the tasks.
    weights: of each row; none given: all rows weigh the same, together 1, as in the public reproduction of Mini-Omni
      (SLAM-LLM, `examples/s2s`).
  """

  kinds: tuple[str, ...]
  weights: tuple[float, ...] = ()

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the weighed sum of the means of every row, each over its own targets in the whole batch.

    Args:
      model: has `groups` (tuples of rows, in the order of the batch's), `hidden(batch)` (states [B, T, D] of each
        group) and `group_logits(hidden, group) -> [B, T, R, V]`.
      batch: `targets` [B, T, R] (entries of the row), `loss_mask` [B, T, R] and `target_kind` [B, T, R] beside what the
        model reads.
      key: not used; every loss takes one.

    Raises:
      UserError: another number of weights than of rows.
    """
    del key
    rows = [row for group in model.groups for row in group]
    weights = self.weights or (1 / len(rows),) * len(rows)
    if len(weights) != len(rows):
      raise UserError(
        f"{len(weights)} weights for {len(rows)} rows",
        where="loss of rows",
        rule="every row has a weight, or none is given",
        remedy="correct the config of the loss",
      )
    loss, metrics, start = jnp.zeros(()), {}, 0
    for number, (group, hidden) in enumerate(zip(model.groups, model.hidden(batch), strict=True)):
      own = slice(start, start + len(group))
      sums = sum_over_targets(
        functools.partial(_chunk_sums, group=number, num_kinds=len(self.kinds) + 1),
        model,
        mask=batch["loss_mask"][..., own].astype(jnp.float32),
        rows=(hidden, batch["targets"][..., own], batch["target_kind"][..., own]),
      )
      losses, counts = sums["loss"].sum(0), sums["count"].sum(0)  # over kinds: [R]
      loss += (jnp.asarray(weights[own]) * losses / jnp.maximum(counts, 1.0)).sum()
      for place, row in enumerate(group):
        metrics[f"loss_{row.name}"] = (losses[place], counts[place])
        metrics[f"accuracy_{row.name}"] = (sums["correct"][:, place].sum(), counts[place])
      for kind, name in enumerate(self.kinds, 1):
        metrics[f"{group[0].group}_{name}"] = (sums["loss"][kind].sum(), sums["count"][kind].sum())
      start += len(group)
    return loss, metrics


def _chunk_sums(model: Any, chunk: Chunk, *, group: int, num_kinds: int) -> dict[str, Array]:
  """Returns the sums of loss, of correct guesses and of weights of one chunk by kind and row, [K, R]; 0 is no kind."""
  mask, hidden, targets, kinds = chunk
  guessed = model.group_logits(hidden, group).astype(jnp.float32)  # [B, T, R, V]
  chosen = jnp.take_along_axis(guessed, targets[..., None], axis=-1)[..., 0]
  losses = jax.nn.logsumexp(guessed, axis=-1) - chosen
  correct = (guessed.argmax(-1) == targets).astype(jnp.float32)
  by_kind = jax.nn.one_hot(kinds, num_kinds) * mask[..., None]  # [B, T, R, K]
  return {
    "loss": jnp.einsum("BTR,BTRk->kR", losses, by_kind),
    "correct": jnp.einsum("BTR,BTRk->kR", correct, by_kind),
    "count": by_kind.sum((0, 1)).T,
  }
