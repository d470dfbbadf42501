"""One step of a vocoder against its critics, for all vocoders: compiled once, on any mesh, like the LLM's (`step.py`).

The critics learn first, from a clip made and its recording; then the generator learns from the critics as they are now
(HiFi-GAN's order). The clip is made once: its gradient goes back through the same pass.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.stages import Wrapped

from omni_jax.core.arrays import Array, Key, Sums
from omni_jax.core.errors import UserError
from omni_jax.speech.discriminators import CriticConfig
from omni_jax.train.adversarial_losses import AdversarialLosses
from omni_jax.train.imitations import Imitation
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.state import Side, TrainState

Imitate = Callable[[Any, dict[str, Array], Key], Imitation]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial:
  """The loss of a run whose model is judged by critics; the run's own optimizer is the generator's.

  Attributes:
    imitate: (model, batch, key) -> a clip made, its recording, and what else the generator minimises.
    losses: of both sides.
    critic: who judges.
    optimizer: of the critics.
  """

  imitate: Imitate
  losses: AdversarialLosses
  critic: CriticConfig
  optimizer: OptimizerConfig


class Duel(NamedTuple):
  """The states of the generator and of its critics; whoever loads the stage sees the generator alone."""

  generator: TrainState
  critic: TrainState

  @property
  def step(self) -> Array:
    """Number of finished steps."""
    return self.generator.step

  @property
  def parameters(self) -> dict[str, Array]:
    """The generator's parameters by path."""
    return self.generator.parameters

  @property
  def moments(self) -> dict[str, Any]:
    """What only this run needs to go on: the moments of both, and the critics themselves."""
    judges = self.critic
    return {"generator": self.generator.moments, "critic": judges.moments, "critic_parameters": judges.parameters}

  def restored(self, parameters: dict[str, Array], moments: Any, *, step: Array) -> "Duel":
    """Returns the state of this structure that holds what a checkpoint held."""
    own = jnp.copy(step)  # a step consumes its state, so no array is in it twice
    return Duel(
      self.generator.restored(parameters, moments["generator"], step=step),
      self.critic.restored(moments["critic_parameters"], moments["critic"], step=own),
    )


def make_adversarial_step(
  imitate: Imitate, losses: AdversarialLosses, *, generator: Side, critic: Side, seed: int
) -> Wrapped:
  """Returns `step(duel, batch) -> (duel, sums)`; the duel given is consumed.

  Args:
    imitate: (model, batch, key) -> a clip made, its recording, and what else the generator minimises.
    losses: of both sides.
    generator: the vocoder.
    critic: the critics: waveform -> outputs of their layers.
    seed: of the run; step n draws from `fold_in(key(seed), n)`.
  """

  def step(duel: Duel, batch: dict[str, Array]) -> tuple[Duel, Sums]:
    key = jax.random.fold_in(jax.random.key(seed), duel.generator.step)

    def make(learning: dict[str, Array]) -> Any:
      made = imitate(generator.build(learning, duel.generator), batch, key)
      _check_lengths(made)
      return (made.waveform, made.loss), (made.target, made.metrics)

    (waveform, own), back, (target, sums) = jax.vjp(make, duel.generator.learning, has_aux=True)

    def judge(learning: dict[str, Array], made: Array) -> Any:
      both = critic.build(learning, duel.critic)(jnp.concatenate([target, made]))
      return tuple(jax.tree.map(lambda x, half=half: jnp.split(x, 2)[half], both) for half in (0, 1))

    def tell_apart(learning: dict[str, Array]) -> Any:
      return losses.critic(*judge(learning, waveform))

    (_, critic_sums), gradient = jax.value_and_grad(tell_apart, has_aux=True)(duel.critic.learning)
    judges = _update(critic, duel.critic, gradient)
    judged = optax.tree.norm(gradient)

    def convince(made: Array) -> Any:
      return losses.generator(*judge(judges.learning, made), waveform=made, target=target)

    (value, maker_sums), towards = jax.value_and_grad(convince, has_aux=True)(waveform)
    (gradient,) = back((towards, jnp.ones_like(own)))
    maker = _update(generator, duel.generator, gradient)
    norm, rate = optax.tree.norm(gradient), generator.optimizer.schedule(duel.generator.step)
    total = {"loss": value + own, "gradient_norm": norm, "critic_gradient_norm": judged, "learning_rate": rate}
    own_sums: Sums = {name: (number, jnp.ones(())) for name, number in total.items()}
    return Duel(maker, judges), {**sums, **critic_sums, **maker_sums, **own_sums}

  shardings = jax.tree.map(lambda leaf: leaf.sharding, Duel(generator.abstract, critic.abstract))
  return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def _check_lengths(made: Imitation) -> None:
  if made.waveform.shape != made.target.shape:
    raise UserError(
      f"clips of shape {made.waveform.shape} for recordings of shape {made.target.shape}",
      where="batch",
      rule="a clip is as long as its recording: its frames times the hop of the vocoder",
      remedy="give the data the sample rate and the hop_samples of the model",
    )


def _update(side: Side, state: TrainState, gradient: dict[str, Array]) -> TrainState:
  updates, moments = side.optimizer.transform.update(gradient, state.moments, state.learning)
  learning = optax.apply_updates(state.learning, updates)
  return state._replace(learning=learning, moments=moments, step=state.step + 1)
