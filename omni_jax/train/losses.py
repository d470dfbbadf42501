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
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
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
  leaves, structure = jax.tree.flatten(model)
  used = _read_of(compute, model, tuple(chunk[0] for chunk in chunks))
  read = [leaves[number] for number in used]

  def of_read(read: list[Array], chunk: Chunk) -> dict[str, Array]:
    known = dict(zip(used, read, strict=True))
    return compute(structure.unflatten([known.get(number) for number in range(len(leaves))]), chunk)

  if mask.shape[0] % (parts := sharding.parts_of("pieces", mesh)) or parts == 1:
    return _sum_of_chunks(of_read, read, chunks, wanted)
  places = jax.tree.leaves(sharding.shardings(model, mesh))
  places = [places[number] for number in used]
  return _sum_on_devices(of_read, read, chunks, wanted, places=places, mesh=mesh)


def _read_of(compute: Callable[[Any, Chunk], dict[str, Array]], model: Any, chunk: Chunk) -> list[int]:
  """Returns the numbers of the leaves of a model that are read: others would be carried, and gathered, for nothing."""
  leaves, structure = jax.tree.flatten(model)
  traced = jax.make_jaxpr(lambda leaves, chunk: compute(structure.unflatten(leaves), chunk))(leaves, chunk).jaxpr
  read = {id(variable) for equation in traced.eqns for variable in equation.invars}
  return [number for number, variable in enumerate(traced.invars[: len(leaves)]) if id(variable) in read]


def _sum_of_chunks(
  compute: Callable[[list[Array], Chunk], dict[str, Array]], read: list[Array], chunks: Chunk, wanted: Array
) -> dict[str, Array]:
  """Returns the sums of the chunks that are wanted, bool [chunks].

  Going back is written out: one choice for each chunk, inside of which it is computed again and its gradient added to
  the sum of those before. Left to JAX, what is computed again would leave a choice of its own, and with it a copy of
  all that the way back reads, as the token table; and the gradient of each chunk would be a table beside their sum.
  """

  # Nothing is kept inside in any case; it tells who counts operations that they are done again going back.
  once_more = jax.checkpoint(compute)

  @jax.custom_vjp
  def summed(read: list[Array], chunks: Chunk, wanted: Array) -> dict[str, Array]:
    shapes = jax.eval_shape(lambda: compute(read, tuple(chunk[0] for chunk in chunks)))
    zero = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}

    def body(sums: dict[str, Array], now: tuple[Chunk, Array]) -> tuple[dict[str, Array], None]:
      chunk, is_wanted = now
      own = jax.lax.cond(is_wanted, once_more, lambda read, chunk: zero, read, chunk)
      return jax.tree.map(jnp.add, sums, own), None

    return jax.lax.scan(body, zero, (chunks, wanted))[0]

  def forth(read: list[Any], chunks: tuple[Any, ...], wanted: Any) -> tuple[dict[str, Array], Any]:
    values = [each.value for each in read], tuple(each.value for each in chunks), wanted.value
    return summed(*values), (_by_need(read), _by_need(chunks), wanted.value)

  def back(kept: Any, given: dict[str, Any]) -> tuple[list[Any], tuple[Any, ...], None]:
    (learning, still), (rows, others), wanted = kept
    given = {name: _filled(leaf) for name, leaf in given.items()}

    def body(total: list[Any], now: tuple[list[Any], list[Any], Array]) -> tuple[list[Any], list[Any]]:
      rows, others, is_wanted = now

      def again(learning: list[Any], rows: list[Any]) -> dict[str, Array]:
        return compute(_either(learning, still), tuple(_either(rows, others)))

      def add(total: list[Any]) -> tuple[list[Any], list[Any]]:
        own, of_rows = jax.vjp(again, learning, rows)[1](given)
        return jax.tree.map(jnp.add, total, own), of_rows

      def skip(total: list[Any]) -> tuple[list[Any], list[Any]]:
        return total, jax.tree.map(jnp.zeros_like, rows)

      return jax.lax.cond(is_wanted, add, skip, total)

    zeros = jax.tree.map(jnp.zeros_like, learning)
    total, of_rows = jax.lax.scan(body, zeros, (rows, others, wanted), reverse=True)
    return total, tuple(of_rows), None

  summed.defvjp(forth, back, symbolic_zeros=True)
  return summed(read, chunks, wanted)


def _by_need(given: Sequence[Any]) -> tuple[list[Any], list[Any]]:
  """Returns the arrays whose gradient is wanted and the others, None in the places of the other kind."""
  return (
    [each.value if each.perturbed else None for each in given],
    [None if each.perturbed else each.value for each in given],
  )


def _either(some: Sequence[Any], others: Sequence[Any]) -> list[Any]:
  """Returns the two lists of `_by_need` as one again."""
  return [other if one is None else one for one, other in zip(some, others, strict=True)]


def _filled(gradient: Any) -> Array:
  """Returns a gradient, zeros where JAX only says that there is none."""
  if isinstance(gradient, SymbolicZero):
    aval: Any = gradient.aval
    return jnp.zeros(aval.shape, aval.dtype)
  return gradient


def _sum_on_devices(
  compute: Callable[[list[Array], Chunk], dict[str, Array]],
  read: list[Array],
  chunks: Chunk,
  wanted: Array,
  *,
  places: list[Any],
  mesh: Any,
) -> dict[str, Array]:
  """Returns `_sum_of_chunks` where each device computes its own rows, with one sum over devices at the end.

  What the chunks read of the model (the token table, which lies at `places`) is gathered once, and its gradient summed
  once, into the parts that devices hold; left to the compiler, both happen for every chunk, there and back. All devices
  skip the same chunks: under `tensor` they exchange parts inside of one, and a device that skipped it alone would be
  waited for without end.
  """
  axes = sharding.RULES["pieces"]
  parts = [_manual(place.spec, axes) for place in places]

  def own(read: list[Array], chunks: Chunk, wanted: Array) -> dict[str, Array]:
    whole = [_gathered(leaf, part) for leaf, part in zip(read, parts, strict=True)]
    return jax.tree.map(lambda sums: sums[None], _sum_of_chunks(compute, whole, chunks, wanted))

  run = jax.shard_map(
    own,
    mesh=mesh,
    in_specs=(parts, PartitionSpec(None, axes), PartitionSpec()),
    out_specs=PartitionSpec(axes),
    axis_names=set(axes),
    check_vma=False,
  )
  return jax.tree.map(lambda sums: sums.sum(0), run(read, chunks, wanted))


def _manual(spec: PartitionSpec, axes: tuple[str, ...]) -> PartitionSpec:
  """Returns the part of a partition that is along some mesh axes; no dimension is split by one of these and another."""
  return PartitionSpec(*(entry if entry in axes else None for entry in spec))


def _gathered(leaf: Array, part: PartitionSpec) -> Array:
  """Returns an array whole on each device of those that hold its parts."""
  for dimension, axis in enumerate(part):
    if axis is not None:
      leaf = jax.lax.all_gather(leaf, axis, axis=dimension, tiled=True)
  return leaf


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
