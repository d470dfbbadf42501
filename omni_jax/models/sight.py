"""What Mini-Omni2 sees with: a CLIP tower read to its end, every vector mapped into CLIP's common space.

ViT-B/32 gives 50 vectors of 512: that of the class token, which is an image's in CLIP, and those of 49 patches
(arXiv 2410.11190, section 2.1). Follows `CLIPVisionModelWithProjection`, whose norm and projection, made for the class
token, go over all tokens here.
"""

import dataclasses

from flax import nnx
from jaxtyping import Float, UInt8

from omni_jax.core.arrays import Array, Key, typed
from omni_jax.models.fixed_vision_encoder import CLIP_B_32, FixedVisionConfig
from omni_jax.nn.linear import Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class SightConfig:
  """The tower, and the width of the space that its vectors are mapped into."""

  tower: FixedVisionConfig
  outputs: int

  @property
  def side(self) -> int:
    """Side of an image in pixels."""
    return self.tower.side

  @property
  def places(self) -> int:
    """Vectors of an image."""
    return self.tower.cells**2 + self.tower.keep_class

  def make(self, *, key: Key) -> "Sight":
    """Returns it with random weights."""
    return Sight(self, key=key)


class Sight(nnx.Module):
  """Squares of pixels to vectors of CLIP's common space."""

  def __init__(self, config: SightConfig, *, key: Key):
    self.config = config
    self.tower = config.tower.make(key=key)
    self.projection = Linear(config.tower.width, config.outputs, axes=("embed", None), bias=False, key=key)

  @typed
  def features(self, tiles: UInt8[Array, "B Y X 3"]) -> Float[Array, "B places outputs"]:
    """Returns the vectors of each image, that of the class token first."""
    return self.projection(self.tower(tiles))


MINI_OMNI_2_SIGHT = SightConfig(tower=CLIP_B_32, outputs=512)
