"""The image tower: Qwen2-VL's native-resolution ViT (arXiv 2409.12191) with its 2x2 merger.

Follows `Qwen2VisionTransformerPretrainedModel` in `transformers/models/qwen2_vl/modeling_qwen2_vl.py`. Images of any
size lie one after another in a row of flattened patches; each has a segment id and sees only itself. Patches come in
merge order: `merge ** 2` consecutive ones are one cell, cells row by row.

    image 4x4, merge 2      row:  0 1 4 5 | 2 3 6 7 | 8 9 12 13 | 10 11 14 15
      0  1  2  3
      4  5  6  7
      8  9 10 11
     12 13 14 15

Deviation: a still image is not doubled to fill `temporal_patch` frames; the frames' weights are summed instead.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int, UInt8

from omni_jax.core.arrays import Array, Hidden, Key, PatchHidden, PatchPositions, typed
from omni_jax.core.sharding import constrain
from omni_jax.models.fusion import Seen, real_in_order
from omni_jax.nn.attention import STREAM_AXES, Attention, AttentionConfig, Sight, choose_kernel, segment_sight
from omni_jax.nn.feed_forward import FeedForward, gelu, quick_gelu
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.parameter import weight
from omni_jax.nn.rotary import Rotation, image_rotation
from omni_jax.nn.stack import Remat, fold, policy_of, stack

# Mean and deviation of red, green and blue that CLIP and Qwen2-VL normalise by.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
  """Dimensions of an image tower.

  Attributes:
    patch: side of a patch in pixels.
    temporal_patch: frames per patch in the stored weights; 1 for a model of still images.
    merge: side in patches of the cell that becomes one vector.
    width: of the residual stream.
    depth: number of layers.
    num_heads: attention heads.
    mlp_dim: inner width of the feed-forward network.
    out_width: of the merged vectors.
    rope_theta: base of the rotary wavelengths.
    norm_eps: added to the variance.
    pixel_mean: of red, green and blue, on the scale 0..1.
    pixel_deviation: likewise.
    remat: what of each layer is recomputed in the backward pass (`nn.stack.POLICIES`).
  """

  patch: int
  temporal_patch: int
  merge: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  out_width: int
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-6
  pixel_mean: tuple[float, float, float] = PIXEL_MEAN
  pixel_deviation: tuple[float, float, float] = PIXEL_DEVIATION
  remat: Remat = False

  def __post_init__(self):
    policy_of(self.remat)
    assert self.width % (4 * self.num_heads) == 0, f"width {self.width} is no multiple of 4 x {self.num_heads} heads"

  @property
  def attention(self) -> AttentionConfig:
    """The attention of every layer."""
    return AttentionConfig.of_encoder(width=self.width, num_heads=self.num_heads)

  def make(self, *, key: Key) -> "VisionEncoder":
    """Returns a tower with random weights."""
    return VisionEncoder(self, key=key)


QWEN2_VL_7B_VISION = VisionConfig(
  patch=14, temporal_patch=2, merge=2, width=1280, depth=32, num_heads=16, mlp_dim=5120, out_width=3584
)


class PatchEmbed(nnx.Module):
  """Flattened patches (row, column, colour) on the scale 0..255 to vectors."""

  def __init__(self, config: VisionConfig, *, key: Key):
    self.config = config
    inputs = config.temporal_patch * config.patch**2 * 3
    self.weight = weight(key, (inputs, config.width), axes=(None, "embed"), fan_in=inputs)

  def __call__(self, patches: Array) -> PatchHidden:
    """Returns one vector per patch."""
    config = self.config
    mean, deviation = (jnp.tile(jnp.array(c), config.patch**2) for c in (config.pixel_mean, config.pixel_deviation))
    # Colours are normalised in float32; what follows is in the dtype of the weights.
    normalised = ((patches.astype(jnp.float32) / 255 - mean) / deviation).astype(self.weight[...].dtype)
    frames = self.weight[...].reshape(config.temporal_patch, -1, config.width)
    return normalised @ frames.sum(0)


class VisionBlock(nnx.Module):
  """Attention inside each image, then a feed-forward network, each on the normalised stream and added to it."""

  def __init__(self, config: VisionConfig, *, key: Key):
    attention, feed_forward = jax.random.split(key)
    self.attention_norm = LayerNorm(width=config.width, eps=config.norm_eps)
    self.attention = Attention(config.attention, key=attention)
    self.feed_forward_norm = LayerNorm(width=config.width, eps=config.norm_eps)
    self.feed_forward = FeedForward(
      width=config.width, mlp_dim=config.mlp_dim, outputs=config.width, activation=quick_gelu, key=feed_forward
    )

  @typed
  def __call__(self, x: Hidden, rotation: Rotation, sight: Sight) -> Hidden:
    """Returns the stream after this layer."""
    x = constrain(x + self.attention(self.attention_norm(x), rotation, sight), STREAM_AXES)
    return constrain(x + self.feed_forward(self.feed_forward_norm(x)), STREAM_AXES)


class Merger(nnx.Module):
  """Joins the patches of a cell into one vector of another width."""

  def __init__(self, config: VisionConfig, *, key: Key):
    joined = config.merge**2 * config.width
    self.cell = config.merge**2
    self.norm = LayerNorm(width=config.width, eps=config.norm_eps)
    self.feed_forward = FeedForward(width=joined, mlp_dim=joined, outputs=config.out_width, activation=gelu, key=key)

  def __call__(self, x: PatchHidden) -> Array:
    """Returns [B, P / merge ** 2, out_width]."""
    x = self.norm(x)
    return self.feed_forward(x.reshape(x.shape[0], x.shape[1] // self.cell, -1))


class VisionEncoder(nnx.Module):
  """Rows of patches to one vector per merge cell."""

  def __init__(self, config: VisionConfig, *, key: Key):
    patch_embed, blocks, merger = jax.random.split(key, 3)
    self.config = config
    self.patch_embed = PatchEmbed(config, key=patch_embed)
    self.blocks = stack(lambda key: VisionBlock(config, key=key), depth=config.depth, key=blocks)
    self.merger = Merger(config, key=merger)

  @typed
  def __call__(
    self,
    patches: UInt8[Array, "B P C"] | Float[Array, "B P C"],
    positions: PatchPositions,
    segment_ids: Int[Array, "B P"],
  ) -> Float[Array, "B cells out_width"]:
    """Returns the merged vectors.

    Args:
      patches: colours 0..255, whatever the dtype.
      positions: row and column of each patch in its image.
      segment_ids: number of the image in its row, 0 for padding.
    """
    return self.merger(self.hidden(patches, positions, segment_ids))

  def read(self, batch: Mapping[str, Array], *, project: Callable[[Array], Array]) -> Seen | None:
    """Returns the projected vectors of the images of a batch (`models.emova`), None without images."""
    images = batch.get("patches")
    if images is None or 0 in images.shape:
      return None
    segment_ids = batch["patch_segment_ids"]
    windows = (images, batch["patch_positions"], segment_ids)
    vectors = project(self(*(array.reshape(-1, *array.shape[2:]) for array in windows)))
    is_real = segment_ids.reshape(segment_ids.shape[0], -1)[:, :: self.config.merge**2] > 0
    return Seen(vectors.reshape(*is_real.shape, -1), real_in_order(is_real))

  def hidden(self, patches: Array, positions: PatchPositions, segment_ids: Array) -> PatchHidden:
    """Returns one vector per patch, before merging."""
    config = self.config
    rotation = image_rotation(positions, head_dim=config.width // config.num_heads, theta=config.rope_theta)
    x = constrain(self.patch_embed(patches), STREAM_AXES)
    kernel = choose_kernel(x.dtype, head_dim=config.attention.head_dim, length=x.shape[1], branched=False)
    return fold(self.blocks, x, rotation, segment_sight(segment_ids, kernel=kernel), remat=config.remat)
