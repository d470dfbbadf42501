"""A run made ready: the state and the step that the loop knows, whatever the step does.

One model learns from one loss (`step.py`), or a vocoder and its critics learn from each other (`adversarial.py`); the
kind of the run's loss says which.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Wrapped

from omni_jax.core.arrays import Array, Key
from omni_jax.core.errors import UserError
from omni_jax.train.adversarial import Adversarial, Duel, make_adversarial_step
from omni_jax.train.state import Side, State, TrainState, describe, make_side
from omni_jax.train.step import PLAIN, make_step

_CRITIC = 1  # folded into the seed's key, so that critics draw other numbers than the generator


class Learner(NamedTuple):
  """What the loop knows of a run.

  Attributes:
    abstract: the state as shapes with shardings.
    create: parameters taken from other stages -> a fresh state.
    step: (state, batch) -> (state, sums of metrics, `loss` and `gradient_norm` among them), compiled when it is first
      called; it consumes the state.
    size: what learns, in words.
    listen: (state, batch) -> sounds [B, A] `made` and `recorded`, to hear how far it is; None where nothing sounds.
  """

  abstract: State
  create: Callable[[dict[str, Array]], State]
  step: Wrapped
  size: str
  listen: Callable[[Any, dict[str, Array]], dict[str, Array]] | None = None


def make_learner(run: Any, mesh: Mesh) -> Learner:
  """Returns the learner of a `loop.Run`; nothing is allocated.

  Raises:
    UserError: an optimizer does not fit its model, or the step its loss.
  """
  make = lambda: run.model.make(key=jax.random.key(run.seed))  # noqa: E731  (a key is made where it is used)
  side = make_side(make, run.optimizer, mesh=mesh, steps=run.steps)
  if isinstance(run.loss, Adversarial):
    return _duel(run.loss, side, run=run, mesh=mesh)
  step = make_step(
    run.loss, side.model, optimizer=side.optimizer, abstract=side.abstract, seed=run.seed, config=run.step
  )
  # A loss that compares sounds lets them be heard (`vocoder_losses`).
  listen = getattr(run.loss, "listen", None)
  return Learner(
    side.abstract, side.create, step, _size(side), listen=None if listen is None else _listen(listen, side, mesh)
  )


def _duel(loss: Adversarial, generator: Side, *, run: Any, mesh: Mesh) -> Learner:
  if run.step != PLAIN:
    raise UserError(
      f"step {run.step}",
      where=f"run {run.name!r}",
      rule="a vocoder and its critics are trained in float32, each batch as one",
      remedy="leave step as it is by default",
    )

  def clips(model: Any, batch: dict[str, Array], key: Key) -> tuple[Array, Array]:
    made = loss.imitate(model, batch, key)
    return made.waveform, made.target

  hear = _listen(clips, generator, mesh)
  make = lambda: loss.critic.make(key=jax.random.fold_in(jax.random.key(run.seed), _CRITIC))  # noqa: E731
  critic = make_side(make, loss.optimizer, mesh=mesh, steps=run.steps)
  return Learner(
    abstract=Duel(generator.abstract, critic.abstract),
    create=lambda loaded: Duel(generator.create(loaded), critic.create({})),
    step=make_adversarial_step(loss.imitate, loss.losses, generator=generator, critic=critic, seed=run.seed),
    size=f"{_size(generator)}, critics {_size(critic)}",
    listen=lambda duel, batch: hear(duel.generator, batch),
  )


def _listen(listen: Callable, side: Side, mesh: Mesh) -> Callable:
  """Returns what gives the clips of a batch as they are made, beside their recordings."""

  def clips(state: TrainState, batch: dict[str, Array]) -> dict[str, Array]:
    made, recorded = listen(side.build(state.learning, state), batch, jax.random.key(0))
    return {"made": made, "recorded": recorded}

  return jax.jit(clips, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _size(side: Side) -> str:
  sizes = {path: math.prod(parameter.shape) / 1e6 for path, parameter in describe(side.model).items()}
  frozen = sum(sizes[path] for path in side.optimizer.frozen)
  return f"{sum(sizes.values()):.3f} M parameters, {frozen:.3f} M frozen"
