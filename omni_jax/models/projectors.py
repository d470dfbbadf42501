"""From the image tower's width to the decoder's, one vector for one: EMOVA's choices that keep the number of vectors.

Those that make fewer vectors are in `downsampling.py`; `AnyProjectorConfig` is all of them.
"""

import dataclasses

from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.models.downsampling import DownsamplingConfig
from omni_jax.nn.feed_forward import FeedForward, gelu
from omni_jax.nn.norm import LayerNorm

_EPS = 1e-5  # of torch.nn.LayerNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
  """Dimensions of the two-layer network (LLaVA-1.5, arXiv 2310.03744, as in the released EMOVA sizes).

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SameWidthConfig:
  """A projector of image vectors that have the decoder's width already.

  Attributes:
    inputs: width of the image vectors and of the decoder.
  """

  inputs: int

  @property
  def outputs(self) -> int:
    """Width of the decoder."""
    return self.inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentityProjectorConfig(_SameWidthConfig):
  """Image vectors of the decoder's width go in as they are."""

  def make(self, *, key: Key) -> "IdentityProjector":
    """Returns the projector, which has no weights."""
    return IdentityProjector()


class IdentityProjector(nnx.Module):
  """Nothing."""

  @typed
  def __call__(self, features: Hidden) -> Hidden:
    """Returns the vectors given."""
    return features


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualProjectorConfig(_SameWidthConfig):
  """Dimensions of EMOVA's `SimpleResBlock`."""

  def make(self, *, key: Key) -> "ResidualProjector":
    """Returns a projector with random weights."""
    return ResidualProjector(self, key=key)


class ResidualProjector(nnx.Module):
  """A two-layer network on the normalised vectors, added to them; the sum starts from the normalised ones."""

  def __init__(self, config: ResidualProjectorConfig, *, key: Key):
    width = config.inputs
    self.norm = LayerNorm(width=width, eps=_EPS)
    self.feed_forward = FeedForward(width=width, mlp_dim=width, outputs=width, activation=gelu, key=key)

  @typed
  def __call__(self, features: Hidden) -> Hidden:
    """Returns one vector per image vector."""
    x = self.norm(features)
    return x + self.feed_forward(x)


AnyProjectorConfig = ProjectorConfig | DownsamplingConfig | IdentityProjectorConfig | ResidualProjectorConfig
