"""Between the prior of units and the latents that become sound: VITS' posterior encoder and its flow.

    training    spectrogram --posterior--> latents --flow forwards--> where the prior of units should be likely
    synthesis   a draw from the prior --flow backwards--> latents --decoder--> sound

A coupling layer of the flow shifts one half of the channels by what it reads off the other half; then the order of the
channels is reversed. Nothing is scaled, so the determinant is one. Reference files: VITS `models.py`
(`ResidualCouplingBlock`, `PosteriorEncoder`), transformers `modeling_vits.py`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Key, typed
from omni_jax.nn.linear import Linear
from omni_jax.speech.gated_convolutions import GatedConvolutionsConfig

Valid = Float[Array, "B T"]
Condition = Float[Array, "B G"]
Latents = Float[Array, "B T C"]
Spectrogram = Float[Array, "B T F"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowConfig:
  """Sizes of the flow: `latent` channels, `depth` coupling layers, and the convolutions in each of them."""

  latent: int
  depth: int
  convolutions: GatedConvolutionsConfig

  def __post_init__(self):
    assert self.latent % 2 == 0, f"latent {self.latent} has no halves"

  @property
  def context(self) -> int:
    """Frames on each side of a frame that its latents depend on."""
    return self.depth * self.convolutions.context

  def make(self, *, key: Key) -> "Flow":
    """Returns a new flow."""
    return Flow(self, key=key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosteriorConfig:
  """Sizes of the posterior encoder: `bins` of the spectrogram, `latent` channels, and the convolutions between."""

  bins: int
  latent: int
  convolutions: GatedConvolutionsConfig

  def make(self, *, key: Key) -> "PosteriorEncoder":
    """Returns a new posterior encoder."""
    return PosteriorEncoder(self, key=key)


class Posterior(NamedTuple):
  """Latents drawn for a recording, and the mean and logarithm of the deviation they were drawn with."""

  latents: Latents
  mean: Latents
  log_deviation: Latents


class CouplingLayer(nnx.Module):
  """Shifts the second half of the channels by what the first half says."""

  def __init__(self, config: FlowConfig, *, key: Key):
    keys = jax.random.split(key, 3)
    half, width = config.latent // 2, config.convolutions.width
    self.input = Linear(half, width, axes=("embed", "mlp"), bias=True, key=keys[0])
    self.convolutions = config.convolutions.make(key=keys[1])
    self.output = Linear(width, half, axes=("mlp", "embed"), bias=True, key=keys[2])
    self.output.weight[...] = jnp.zeros_like(self.output.weight[...])  # starts as the identity

  def shift(self, first: Latents, valid: Valid, condition: Condition | None) -> Latents:
    """Returns what is added to the second half."""
    mask = valid[..., None]
    return self.output(self.convolutions(self.input(first) * mask, valid, condition)) * mask


class Flow(nnx.Module):
  """Latents of sound <-> latents that the prior of units describes."""

  def __init__(self, config: FlowConfig, *, key: Key):
    self.config = config
    self.layers = nnx.List(CouplingLayer(config, key=one) for one in jax.random.split(key, config.depth))

  @typed
  def forward(self, latents: Latents, valid: Valid, condition: Condition | None) -> Latents:
    """Returns latents of the prior."""
    for layer in self.layers:
      first, second = jnp.split(latents, 2, axis=-1)
      second = layer.shift(first, valid, condition) + second * valid[..., None]
      latents = jnp.concatenate([first, second], axis=-1)[..., ::-1]
    return latents

  @typed
  def backward(self, latents: Latents, valid: Valid, condition: Condition | None) -> Latents:
    """Returns latents of sound, of which `forward` makes the given ones."""
    for layer in self.layers[::-1]:
      first, second = jnp.split(latents[..., ::-1], 2, axis=-1)
      second = (second - layer.shift(first, valid, condition)) * valid[..., None]
      latents = jnp.concatenate([first, second], axis=-1)
    return latents


class PosteriorEncoder(nnx.Module):
  """Spectrogram -> latents of a recording; in training only."""

  def __init__(self, config: PosteriorConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 3)
    width = config.convolutions.width
    self.input = Linear(config.bins, width, axes=("embed", "mlp"), bias=True, key=keys[0])
    self.convolutions = config.convolutions.make(key=keys[1])
    self.output = Linear(width, 2 * config.latent, axes=("mlp", "embed"), bias=True, key=keys[2])

  @typed
  def __call__(
    self, spectrogram: Spectrogram, valid: Valid, condition: Condition | None, *, noise: Latents
  ) -> Posterior:
    """Returns the posterior and one draw of it by standard normal `noise`, zero where `valid` is."""
    mask = valid[..., None]
    hidden = self.convolutions(self.input(spectrogram) * mask, valid, condition)
    mean, log_deviation = jnp.split(self.output(hidden) * mask, 2, axis=-1)
    return Posterior((mean + noise * jnp.exp(log_deviation)) * mask, mean, log_deviation)
