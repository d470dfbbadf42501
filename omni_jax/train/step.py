"""One training step: loss, gradient, update, compiled once for each batch shape, on any mesh."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from omni_jax.core import trees
from omni_jax.core.arrays import Array, Key, Scalar
from omni_jax.train.optimizer import Optimizer
from omni_jax.train.state import TrainState

# (sum, count) on the device: a window of steps is averaged by adding both.
Sums = dict[str, tuple[Array, Array]]
Loss = Callable[[Any, dict[str, Array], Key], tuple[Scalar, Sums]]


def make_step(loss: Loss, model: Any, *, optimizer: Optimizer, abstract: TrainState, seed: int) -> Callable:
  """Returns `step(state, batch) -> (state, sums)`; the state given is consumed.

  Args:
    loss: (model, batch, key) -> (mean loss, sums of metrics).
    model: the model, possibly abstract: only its structure is used.
    optimizer: from `make_optimizer`.
    abstract: from `abstract_state`; the new state keeps its shardings.
    seed: of the run; step n draws from `fold_in(key(seed), n)`.
  """

  def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Sums]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def loss_of(learning: dict[str, Array]) -> tuple[Scalar, Sums]:
      return loss(trees.unflatten(model, {**learning, **state.frozen}), batch, key)

    (value, sums), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.learning)
    updates, moments = optimizer.transform.update(gradient, state.moments, state.learning)
    learning = optax.apply_updates(state.learning, updates)
    own = {"loss": value, "gradient_norm": optax.tree.norm(gradient), "learning_rate": optimizer.schedule(state.step)}
    sums = {**sums, **{name: (number, 1.0) for name, number in own.items()}}
    return state._replace(learning=learning, moments=moments, step=state.step + 1), sums

  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
