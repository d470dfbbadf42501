"""From the image tower's width to the decoder's: a two-layer network (LLaVA-1.5, arXiv 2310.03744, as in EMOVA)."""

import dataclasses

from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.nn.feed_forward import FeedForward, gelu


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
  """Dimensions of a projector.

  Attributes:
    inputs: width of the image vectors.
    outputs: width of the decoder, also the inner width.
  """

  inputs: int
  outputs: int

  def make(self, *, key: Key) -> "Projector":
    """Returns a projector with random weights."""
    return Projector(self, key=key)


class Projector(nnx.Module):
  """Linear, exact GELU, linear, with biases."""

  def __init__(self, config: ProjectorConfig, *, key: Key):
    self.feed_forward = FeedForward(
      width=config.inputs, mlp_dim=config.outputs, outputs=config.outputs, activation=gelu, key=key
    )

  @typed
  def __call__(self, features: Hidden) -> Float[Array, "B T outputs"]:
    """Returns one vector of the decoder's width per image vector."""
    return self.feed_forward(features)
