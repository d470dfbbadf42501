"""One training step: loss, gradient, update, compiled once for each batch shape, on any mesh.

    master weights, float32 --cast once--> compute dtype --loss--> gradient --float32--> optimizer --> master weights

A batch may be computed in parts, one after another. The gradient of the whole batch is the sum of the parts' gradients,
each weighted by what its mean is taken over: parts of a packed batch differ in how many of their positions are learned,
so their mean losses must not simply be averaged.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.stages import Wrapped

from omni_jax.core import sharding, trees
from omni_jax.core.arrays import Array, Key, Scalar, Sums
from omni_jax.core.errors import UserError
from omni_jax.train.optimizer import Optimizer
from omni_jax.train.state import TrainState, kept_exact

Loss = Callable[[Any, dict[str, Array], Key], tuple[Scalar, Sums]]
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
  """How a step computes; by default in float32, the batch as one, and a loss that is not finite stops the run.

  Attributes:
    compute_dtype: `float32` or `bfloat16`, of parameters and activations while loss and gradient are computed.
      Parameters and moments themselves stay float32, as do norms, softmax and loss inside the models.
    accumulate: parts of the batch that are computed one after another.
    bad_steps: how many successive steps whose loss or gradient is not finite are skipped; the next one stops the run.
      A skipped step changes neither parameters nor moments; the schedule goes on.
    norms: leading parts of paths, as `decoder.blocks`, whose gradient norms are reported.
  """

  compute_dtype: str = "float32"
  accumulate: int = 1
  bad_steps: int = 0
  norms: tuple[str, ...] = ()

  def __post_init__(self):
    if self.compute_dtype not in DTYPES or self.accumulate < 1 or self.bad_steps < 0:
      raise UserError(
        f"compute_dtype {self.compute_dtype!r}, accumulate {self.accumulate}, bad_steps {self.bad_steps}",
        where="step",
        rule=f"compute_dtype is one of {', '.join(DTYPES)}, accumulate at least 1, bad_steps 0 or more",
        remedy="change the one out of range",
      )


PLAIN = StepConfig()


def make_step(
  loss: Loss, model: Any, *, optimizer: Optimizer, abstract: TrainState, seed: int, config: StepConfig = PLAIN
) -> Wrapped:
  """Returns `step(state, batch) -> (state, sums)`; the state given is consumed.

  Args:
    loss: (model, batch, key) -> (mean loss, sums of metrics). If among these is `loss`, a pair (sum, count), the mean
      is sum / max(count, 1); only such a loss can be accumulated.
    model: the model, possibly abstract: only its structure is used.
    optimizer: from `make_optimizer`.
    abstract: from `abstract_state`; the new state keeps its shardings.
    seed: of the run; step n draws from `fold_in(key(seed), n)`.
    config: how it computes.

  Raises:
    UserError: norms of paths that do not learn.
  """
  _check_norms(config.norms, abstract)
  exact, where = kept_exact(model), {path: leaf.sharding for path, leaf in abstract.learning.items()}

  def loss_of(learning: dict[str, Array], frozen: dict[str, Array], batch: dict[str, Array], key: Key) -> Any:
    return loss(trees.unflatten(model, {**learning, **frozen}), batch, key)

  def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Sums]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    learning, frozen = (_narrowed(part, config.compute_dtype, exact=exact) for part in (state.learning, state.frozen))
    differentiate = jax.value_and_grad(lambda learning, *rest: loss_of(learning, frozen, *rest), has_aux=True)
    if config.accumulate == 1:
      (value, sums), gradient = differentiate(learning, batch, key)
      gradient = {path: leaf.astype(state.learning[path].dtype) for path, leaf in gradient.items()}
    else:
      value, sums, gradient = _accumulated(
        differentiate, learning, batch, key=key, parts=config.accumulate, where=where
      )
    updates, moments = optimizer.transform.update(gradient, state.moments, state.learning)
    own = {"loss": value, "gradient_norm": optax.tree.norm(gradient), "learning_rate": optimizer.schedule(state.step)}
    new = state._replace(learning=optax.apply_updates(state.learning, updates), moments=moments, step=state.step + 1)
    if config.bad_steps:
      new = _unless_bad(jnp.isfinite(value) & jnp.isfinite(own["gradient_norm"]), new, state)
    for part in config.norms:
      inside = [leaf for path, leaf in gradient.items() if trees.matches(part, path)]
      own[f"gradient_norm/{part}"] = optax.tree.norm(inside)
    return new, {**sums, **{name: (number, jnp.ones(())) for name, number in own.items()}}

  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def _narrowed(parameters: dict[str, Array], dtype: str, *, exact: frozenset[str]) -> dict[str, Array]:
  """Returns the parameters as the loss computes with them; codes and their scales are left alone."""
  return {
    path: leaf.astype(dtype) if leaf.dtype == jnp.float32 and path not in exact else leaf
    for path, leaf in parameters.items()
  }


def _accumulated(
  differentiate: Callable,
  learning: dict[str, Array],
  batch: dict[str, Array],
  *,
  key: Key,
  parts: int,
  where: dict[str, Any],
) -> tuple[Scalar, Sums, dict[str, Array]]:
  """Returns loss, metrics and gradient of the whole batch, part by part.

  Part i is the rows i, i + parts, ...: every device keeps the rows that it has.
  """

  def split(array: Array) -> Array:
    rows = array.reshape(array.shape[0] // parts, parts, *array.shape[1:]).swapaxes(0, 1)
    return sharding.constrain(rows, (None, "batch", *(None,) * (array.ndim - 1)))

  def placed(gradient: dict[str, Array]) -> dict[str, Array]:
    return {path: jax.lax.with_sharding_constraint(leaf, where[path]) for path, leaf in gradient.items()}

  def add(total: dict[str, Array], part: tuple[Array, dict[str, Array]]) -> Any:
    number, rows = part
    (value, sums), gradient = differentiate(learning, rows, jax.random.fold_in(key, number))
    if "loss" not in sums:
      raise UserError(
        "the loss does not say how many targets its mean is taken over",
        where="step.accumulate",
        rule="parts of a batch are weighted by their targets: a loss that is accumulated reports `loss`, (sum, count)",
        remedy="set step.accumulate to 1, or use a loss of train.losses",
      )
    count = sums["loss"][1]
    weight = jnp.maximum(count, 1.0)
    total = placed({path: sum_ + weight * gradient[path].astype(jnp.float32) for path, sum_ in total.items()})
    return total, (value * weight, count, {name: pair for name, pair in sums.items() if name != "loss"})

  zeros = placed({path: jnp.zeros(leaf.shape, jnp.float32) for path, leaf in learning.items()})
  rows = {name: split(array) for name, array in batch.items()}
  total, ends = jax.lax.scan(add, zeros, (jnp.arange(parts), rows))
  value, count, sums = jax.tree.map(lambda each: each.sum(0), ends)
  count = jnp.maximum(count, 1.0)
  return value / count, sums, {path: leaf / count for path, leaf in total.items()}


def _unless_bad(is_finite: Array, new: TrainState, old: TrainState) -> TrainState:
  """Returns the new state, or the old one with its step and its clocks moved on."""

  def is_clock(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)

  def choose(after: Any, before: Any) -> Any:
    return after if is_clock(after) else jnp.where(is_finite, after, before)

  chosen = jax.tree.map(choose, (new.learning, new.moments), (old.learning, old.moments), is_leaf=is_clock)
  return new._replace(learning=chosen[0], moments=chosen[1])


def _check_norms(norms: tuple[str, ...], abstract: TrainState) -> None:
  for part in norms:
    if not any(trees.matches(part, path) for path in abstract.learning):
      raise UserError(
        f"norm of {part!r}, which matches no parameter that learns",
        where="step.norms",
        rule=f"a pattern matches a path or a leading part of one: {', '.join(sorted(abstract.learning)[:8])}, ...",
        remedy="correct the pattern or remove it",
      )
