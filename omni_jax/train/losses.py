"""The language model's loss: next-token cross entropy over the learned positions, never holding all logits at once.

Images, prompts and a user's speech are read, not learned: in an image-text batch four positions of five have no target,
and their logits over thousands of rows would be the dearest part of a small model. So the positions of a row are put in
order, learned ones first, and cut into chunks; a chunk without a target in any row is skipped when the step runs.

    loss_mask  0 0 1 1 0 0 0 1     ->     1 1 1 0 | 0 0 0 0
                                          computed   skipped

Reported beside the loss are the loss and accuracy of each kind of target (text, speech units, style), because a mean
over 4096 units hides what happens to a few words.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from omni_jax.core import sharding
from omni_jax.core.arrays import Array, Key, Scalar, Sums
from omni_jax.core.errors import UserError

NUM_CHUNKS = 8  # at most; a row whose length has a smaller divisor only gets that many
LONGEST_CHUNK = 512  # positions whose logits exist at once
KINDS = ("none", "text", "unit", "style")  # names of `target_kind` 0, 1, ...

Chunk = tuple[Array, ...]  # arrays [B, T, ...] of some positions


def next_token(model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
  """Returns the cross entropy of `targets` weighted by `loss_mask`, over the mask's sum in the whole batch.

  Args:
    model: has `hidden(batch) -> [B, T, D]` and `logits(hidden) -> [B, T, V]`.
    batch: at least `targets` [B, T] (the token each position should predict) and `loss_mask` [B, T]; with
      `target_kind` [B, T] the metrics are also given by kind.
    key: not used; every loss takes one.
  """
  del key
  return _cross_entropy(model, model.hidden(batch), batch)


def balanced_next_token(model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
  """Returns `next_token` plus the balance loss of the model's experts, which is reported as `balance`.

  Args:
    model: has `hidden_and_balance(batch) -> ([B, T, D], scalar)`, the scalar with its weight, and `logits`.
    batch: as for `next_token`.
    key: not used.
  """
  del key
  return _balanced(model, batch, z_weight=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalmNextToken:
  """`balanced_next_token` plus `z_weight` times the square of the log of the softmax's divisor, over learned positions.

  It keeps logits from drifting where bfloat16 can no longer tell them apart (z-loss: PaLM, arXiv 2204.02311, section 5,
  with 1e-4). Reported as `z_loss`, without its weight. A model without experts has no balance loss to add.
  """

  z_weight: float

  def __post_init__(self):
    if not self.z_weight > 0:
      raise UserError(
        f"z_weight {self.z_weight}",
        where="loss",
        rule="a weight is above 0",
        remedy="change it, or use next_token or balanced_next_token",
      )

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns loss and metrics as `balanced_next_token`."""
    del key
    return _balanced(model, batch, z_weight=self.z_weight)


def _balanced(model: Any, batch: dict[str, Array], *, z_weight: float) -> tuple[Scalar, Sums]:
  hidden, balance = model.hidden_and_balance(batch)
  loss, metrics = _cross_entropy(model, hidden, batch, z_weight=z_weight)
  return loss + balance, metrics | {"balance": (balance, jnp.ones(()))}


def _cross_entropy(model: Any, hidden: Array, batch: dict[str, Array], *, z_weight: float = 0.0) -> tuple[Scalar, Sums]:
  kinds = batch.get("target_kind", jnp.zeros_like(batch["targets"]))
  names = ("loss", "correct", *(("z_loss",) if z_weight else ()))
  sums = sum_over_targets(
    functools.partial(_chunk_sums, names=names),
    model,
    mask=batch["loss_mask"].astype(jnp.float32),
    rows=(hidden, batch["targets"], kinds),
  )
  total, count = sums["loss"].sum(), sums["count"].sum()
  metrics = {"accuracy": (sums["correct"].sum(), count)}
  if z_weight:
    total = total + z_weight * sums["z_loss"].sum()
    metrics["z_loss"] = (sums["z_loss"].sum(), count)
  metrics["loss"] = (total, count)
  loss = total / jnp.maximum(count, 1.0)
  if "target_kind" in batch:
    for index, kind in enumerate(KINDS[1:], 1):
      metrics[f"loss_{kind}"] = (sums["loss"][index], sums["count"][index])
      metrics[f"accuracy_{kind}"] = (sums["correct"][index], sums["count"][index])
  return loss, metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropping:
  """Another loss, of a model with adapters (`nn.lora`), with their dropout."""

  loss: Callable  # (model, batch, key) -> (mean loss, metrics)

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of the adapted base."""
    own, rest = jax.random.split(key)
    return self.loss(model.joined(key=own), batch, rest)


def _pieces(rows: Array) -> Array:
  """Returns rows [B, T, ...] cut where the mesh cuts them, so that each device orders and chunks its own positions."""
  parts = sharding.parts_of("sequence", sharding.current_mesh())
  if parts == 1:
    return rows
  cut = rows.reshape(rows.shape[0] * parts, rows.shape[1] // parts, *rows.shape[2:])
  return sharding.constrain(cut, ("pieces", *(None,) * (rows.ndim - 1)))


def sum_over_targets(
  compute: Callable[[Any, Chunk], dict[str, Array]], model: Any, *, mask: Array, rows: Chunk
) -> dict[str, Array]:
  """Returns the sums of `compute(model, (mask, *rows))` over chunks of positions; one without a target is skipped.

  Args:
    compute: gives sums of any shapes; going back it is computed again.
    model: what it reads.
    mask: [B, T] or, of several targets a position, [B, T, R]; 0 where there is none.
    rows: what else it reads, each [B, T, ...].
  """
  mask = _pieces(mask)
  learned = mask.reshape(*mask.shape[:2], -1).max(axis=-1)
  ordered = _learned_first((mask, *map(_pieces, rows)), learned)
  length = _chunk_length(mask.shape[1])
  chunks = tuple(jnp.moveaxis(row.reshape(row.shape[0], -1, length, *row.shape[2:]), 1, 0) for row in ordered)
  mesh, wanted = sharding.current_mesh(), jnp.any(chunks[0] > 0, axis=tuple(range(1, chunks[0].ndim)))
  if mask.shape[0] % (parts := sharding.parts_of("pieces", mesh)) or parts == 1:
    return _sum_of_chunks(compute, model, chunks, wanted)
  return _sum_on_devices(compute, model, chunks, wanted, mesh=mesh)


def _sum_of_chunks(
  compute: Callable[[Any, Chunk], dict[str, Array]], model: Any, chunks: Chunk, wanted: Array
) -> dict[str, Array]:
  """Returns the sums of the chunks that are wanted, bool [chunks]."""
  shapes = jax.eval_shape(lambda: compute(model, tuple(chunk[0] for chunk in chunks)))
  zero = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}

  # Around the choice, not inside: else what a chunk reads of the model is kept once for every chunk.
  @jax.checkpoint
  def computed(model: Any, chunk: Chunk, is_wanted: Array) -> dict[str, Array]:
    return jax.lax.cond(is_wanted, compute, lambda model, chunk: zero, model, chunk)

  def body(sums: dict[str, Array], now: tuple[Chunk, Array]) -> tuple[dict[str, Array], None]:
    return jax.tree.map(jnp.add, sums, computed(model, *now)), None

  return jax.lax.scan(body, zero, (chunks, wanted))[0]


def _sum_on_devices(
  compute: Callable[[Any, Chunk], dict[str, Array]], model: Any, chunks: Chunk, wanted: Array, *, mesh: Any
) -> dict[str, Array]:
  """Returns `_sum_of_chunks` where each device computes its own rows, with one sum over devices at the end.

  What the chunks read of the model (the token table) is gathered once and its gradient summed once; left to the
  compiler, both happen for every chunk, there and back. All devices skip the same chunks: under `tensor` they exchange
  parts inside of one, and a device that skipped it alone would be waited for without end.
  """
  leaves, structure = jax.tree.flatten(model)
  first = tuple(chunk[0] for chunk in chunks)
  traced = jax.make_jaxpr(lambda leaves, chunk: compute(structure.unflatten(leaves), chunk))(leaves, first).jaxpr
  read = {id(variable) for equation in traced.eqns for variable in equation.invars}
  used = [number for number, variable in enumerate(traced.invars[: len(leaves)]) if id(variable) in read]

  def own(tables: list[Array], chunks: Chunk, wanted: Array) -> dict[str, Array]:
    # What is not read stays outside: an argument of every device would be gathered to it.
    known = dict(zip(used, tables, strict=True))
    read = structure.unflatten([known.get(number) for number in range(len(leaves))])
    return jax.tree.map(lambda sums: sums[None], _sum_of_chunks(compute, read, chunks, wanted))

  axes = sharding.RULES["pieces"]
  run = jax.shard_map(
    own,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(None, axes), PartitionSpec()),
    out_specs=PartitionSpec(axes),
    axis_names=set(axes),
    check_vma=False,
  )
  return jax.tree.map(lambda sums: sums.sum(0), run([leaves[number] for number in used], chunks, wanted))


def _learned_first(rows: tuple[Array, ...], mask: Array) -> tuple[Array, ...]:
  """Returns the arrays [B, T, ...] with the positions of each row reordered, those with a target first."""
  order = jnp.argsort(mask == 0, axis=1, stable=True)
  return tuple(jnp.take_along_axis(row, order.reshape(*order.shape, *(1,) * (row.ndim - 2)), axis=1) for row in rows)


def _chunk_length(length: int) -> int:
  """Returns the smallest divisor of `length` that makes at most NUM_CHUNKS chunks, or longer rows' LONGEST_CHUNK."""
  wanted = min(-(-length // NUM_CHUNKS), LONGEST_CHUNK)
  return min((size for size in range(1, length + 1) if length % size == 0), key=lambda size: (abs(size - wanted), size))


def _chunk_sums(model: Any, chunk: Chunk, *, names: tuple[str, ...]) -> dict[str, Array]:
  """Returns those of loss, correct guesses and z-loss of one chunk that are named, and the count, over KINDS."""
  mask, hidden, targets, kinds = chunk
  logits = model.logits(hidden).astype(jnp.float32)  # [B, T, V]
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  divisor = jax.nn.logsumexp(logits, axis=-1)
  losses = divisor - chosen
  correct = (logits.argmax(-1) == targets).astype(jnp.float32)
  by_kind = jax.nn.one_hot(kinds, len(KINDS)) * mask[..., None]  # [B, T, kind]
  values = {"loss": losses, "correct": correct, "z_loss": divisor**2}
  summed = {name: jnp.einsum("BT,BTk->k", values[name], by_kind) for name in names}
  return {**summed, "count": by_kind.sum((0, 1))}
