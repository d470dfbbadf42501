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

from omni_jax.core.arrays import Array, Key, Scalar
from omni_jax.core.errors import UserError
from omni_jax.train.losses import _chunk_length, _learned_first

Metrics = dict[str, tuple[Array, Array]]


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

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Metrics]:
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
      sums = self._sums(functools.partial(_logits, group=number), model, hidden, batch, own=own)
      losses, counts = sums["loss"].sum(0), sums["count"].sum(0)  # over kinds: [R]
      loss += (jnp.asarray(weights[own]) * losses / jnp.maximum(counts, 1.0)).sum()
      for place, row in enumerate(group):
        metrics[f"loss_{row.name}"] = (losses[place], counts[place])
        metrics[f"accuracy_{row.name}"] = (sums["correct"][:, place].sum(), counts[place])
      for kind, name in enumerate(self.kinds, 1):
        metrics[f"{group[0].group}_{name}"] = (sums["loss"][kind].sum(), sums["count"][kind].sum())
      start += len(group)
    return loss, metrics

  def _sums(self, logits: Any, model: Any, hidden: Array, batch: dict[str, Array], *, own: slice) -> dict[str, Array]:
    """Returns sums of loss, of correct guesses and of weights by kind and row, [K, R]; kind 0 has no name."""
    mask = batch["loss_mask"][..., own].astype(jnp.float32)
    rows = (hidden, batch["targets"][..., own], mask, batch["target_kind"][..., own])
    ordered = _learned_first(rows, mask.max(axis=-1))
    length = _chunk_length(mask.shape[1])
    chunks = tuple(jnp.moveaxis(row.reshape(row.shape[0], -1, length, *row.shape[2:]), 1, 0) for row in ordered)
    shape = (len(self.kinds) + 1, mask.shape[-1])
    zero = {name: jnp.zeros(shape) for name in ("loss", "correct", "count")}
    compute = jax.checkpoint(functools.partial(_chunk_sums, logits, num_kinds=shape[0]))

    def body(sums: dict[str, Array], chunk: tuple[Array, ...]) -> tuple[dict[str, Array], None]:
      part = jax.lax.cond(jnp.any(chunk[2] > 0), compute, lambda model, chunk: zero, model, chunk)
      return jax.tree.map(jnp.add, sums, part), None

    return jax.lax.scan(body, zero, chunks)[0]


def _logits(model: Any, hidden: Array, *, group: int) -> Array:
  return model.group_logits(hidden, group)


def _chunk_sums(logits: Any, model: Any, rows: tuple[Array, ...], *, num_kinds: int) -> dict[str, Array]:
  """Returns the sums of one chunk."""
  hidden, targets, mask, kinds = rows
  guessed = logits(model, hidden).astype(jnp.float32)  # [B, T, R, V]
  chosen = jnp.take_along_axis(guessed, targets[..., None], axis=-1)[..., 0]
  losses = jax.nn.logsumexp(guessed, axis=-1) - chosen
  correct = (guessed.argmax(-1) == targets).astype(jnp.float32)
  by_kind = jax.nn.one_hot(kinds, num_kinds) * mask[..., None]  # [B, T, R, K]
  return {
    "loss": jnp.einsum("BTR,BTRk->kR", losses, by_kind),
    "correct": jnp.einsum("BTR,BTRk->kR", correct, by_kind),
    "count": by_kind.sum((0, 1)).T,
  }
