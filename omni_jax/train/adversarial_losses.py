"""What a vocoder and its critics learn from each other: least squares (arXiv 1611.04076), features, distances.

HiFi-GAN (arXiv 2010.05646): the generator minimises its critics' doubts, twice the distance of their features between
made and recorded speech, and 45 times the distance of mel spectra.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from omni_jax.core.arrays import Scalar, Sums, Waveform
from omni_jax.speech.discriminators import Judgement

Distance = Callable[[Waveform, Waveform], Scalar]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialLosses:
  """Weights of the generator's loss.

  Attributes:
    doubt: weight of the critics' scores.
    features: weight of the distance of their layers.
    distances: (name, weight, distance of made from recorded waveform) of spectra, in metrics under their name.
  """

  doubt: float = 1.0
  features: float = 2.0
  distances: tuple[tuple[str, float, Distance], ...] = ()

  def critic(self, real: Judgement, made: Judgement) -> tuple[Scalar, Sums]:
    """Returns the critics' loss, and how the two sides stand.

    `critic_right` is the share of scores on the right side of one half, `critic_real` and `critic_made` are the mean
    scores of recordings and of what is made: both near one half when the critics cannot tell, 1 and 0 when the
    generator has lost.
    """
    loss = critic_loss(real, made)
    right = [jnp.mean(part[-1] > 0.5) for part in real] + [jnp.mean(part[-1] < 0.5) for part in made]
    metrics = {"critic": loss, "critic_right": jnp.stack(right).mean()}
    metrics |= {"critic_real": mean_score(real), "critic_made": mean_score(made)}
    one = jnp.ones(())
    return loss, {name: (value, one) for name, value in metrics.items()}

  def generator(self, real: Judgement, made: Judgement, *, waveform: Waveform, target: Waveform) -> tuple[Scalar, Sums]:
    """Returns the generator's loss and its parts."""
    doubt, features = generator_loss(made), feature_distance(real, made)
    one, loss = jnp.ones(()), self.doubt * doubt + self.features * features
    metrics = {"doubt": (doubt, one), "features": (features, one)}
    for name, weight, distance in self.distances:
      value = distance(waveform, target)
      loss, metrics[name] = loss + weight * value, (value, one)
    return loss, metrics


def mean_score(judgement: Judgement) -> Scalar:
  """Returns the mean score, every critic counting alike."""
  return jnp.stack([part[-1].mean() for part in judgement]).mean()


def critic_loss(real: Judgement, made: Judgement) -> Scalar:
  """Returns the sum over critics of the mean squared distance of real scores from 1 and of made ones from 0."""
  return sum_of([jnp.square(1 - part[-1]).mean() for part in real] + [jnp.square(part[-1]).mean() for part in made])


def generator_loss(made: Judgement) -> Scalar:
  """Returns the sum over critics of the mean squared distance of made scores from 1."""
  return sum_of([jnp.square(1 - part[-1]).mean() for part in made])


def feature_distance(real: Judgement, made: Judgement) -> Scalar:
  """Returns the sum over layers of all critics, scores among them, of the mean absolute difference."""
  pairs = [pair for one, other in zip(real, made, strict=True) for pair in zip(one, other, strict=True)]
  return sum_of([jnp.abs(one - other).mean() for one, other in pairs])


def sum_of(values: list[Scalar]) -> Scalar:
  """Returns the sum of scalars."""
  return jnp.stack(values).sum()
