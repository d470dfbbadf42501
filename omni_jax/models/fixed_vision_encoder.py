"""Image towers of one resolution: CLIP, SigLIP, InternViT and UNIT, one class, what differs is in the config.

A square of pixels becomes one vector per patch, all of which see each other. Follows `CLIPVisionModel` (arXiv
2103.00020), `SiglipVisionModel` (2303.15343), InternViT (2312.14238, `modeling_intern_vit.py`) and EMOVA's wrappers
around them, which say which layer is read. Positions are learned for one size and interpolated for others.

Deviations: the class token is dropped from the output where no language model reads it, and layers after the one
that is read are held, so that a file comes back whole, but never run.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, UInt8

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.core.config import added
from omni_jax.core.sharding import constrain, require_parts
from omni_jax.models.fusion import Seen
from omni_jax.models.vision_encoder import PIXEL_DEVIATION, PIXEL_MEAN
from omni_jax.nn.attention import KEY_AXES, QUERY_AXES, STREAM_AXES, Attention, AttentionConfig, Memory, attend
from omni_jax.nn.feed_forward import FeedForward, gelu, quick_gelu, tanh_gelu
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm, RMSNorm
from omni_jax.nn.parameter import constant, table
from omni_jax.nn.resampling import ResamplingRule, bicubic, bilinear_corners, resample
from omni_jax.nn.stack import Remat, fold, layers_between, policy_of, stack

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class OutputNorm(enum.Enum):
  """What happens after the last layer that runs."""

  NONE = enum.auto()
  UNREAD = enum.auto()  # the file has a norm, for a pooled vector or the very last layer, that these features skip
  APPLIED = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedVisionConfig:
  """Dimensions of a tower of one resolution.

  Attributes:
    side: of the square image in pixels.
    patch: side of a patch in pixels; what is left at the right and below is cut off.
    width: of the residual stream and of the output.
    depth: number of layers in the file.
    features_after: number of layers that run; EMOVA's `mm_vision_select_layer` -1 is `depth`, -2 is `depth - 1`.
    num_heads: attention heads.
    mlp_dim: inner width of the feed-forward network.
    activation: of the feed-forward network.
    norm: class of every norm in the layers.
    norm_eps: added to the variance.
    qkv_bias: whether query, key and value have offsets.
    patch_bias: whether patch vectors have one.
    class_token: whether a learned vector goes before the patches.
    output_norm: after the last layer that runs, a LayerNorm.
    output_norm_eps: added to its variance where that differs from the layers.
    input_norm: whether a norm comes before the first layer (CLIP).
    query_key_norm: whether queries and keys are normalised over the full width, before they are cut into heads.
    layer_scale: start of the learned scales of what each half of a layer adds; None: no scales.
    positions_side: side in patches of the learned plane of positions where it is not that of the image.
    class_position: whether the class token has a position too.
    resampling: how positions come to another size.
    pixel_mean: of red, green and blue, on the scale 0..1.
    pixel_deviation: likewise.
    remat: what of each layer is recomputed in the backward pass (`nn.stack.POLICIES`).
    chunk: how many squares of each row of a batch are in the tower at once, recomputed in the backward pass, so that
      many squares take the memory of a few; 0: all of them. (EMOVA runs 36 of a whole batch at once.)
    keep_class: whether the class token is read too, before the patches (Mini-Omni2).
  """

  side: int
  patch: int
  width: int
  depth: int
  features_after: int
  num_heads: int
  mlp_dim: int
  activation: Callable[[Array], Array]
  norm: type[LayerNorm] | type[RMSNorm]
  norm_eps: float
  qkv_bias: bool
  patch_bias: bool
  class_token: bool
  output_norm: OutputNorm
  output_norm_eps: float | None = None
  input_norm: bool = False
  query_key_norm: bool = False
  layer_scale: float | None = None
  positions_side: int | None = None
  class_position: bool = True
  resampling: ResamplingRule = bicubic
  pixel_mean: tuple[float, float, float] = PIXEL_MEAN
  pixel_deviation: tuple[float, float, float] = PIXEL_DEVIATION
  remat: Remat = False
  chunk: int = added(0)
  keep_class: bool = added(False)

  def __post_init__(self):
    policy_of(self.remat)
    assert self.chunk >= 0, f"chunk {self.chunk}"
    assert self.class_token or not self.keep_class, "there is no class token to keep"
    assert self.width % self.num_heads == 0, f"width {self.width} is no multiple of {self.num_heads} heads"
    assert 0 < self.features_after <= self.depth, f"features after {self.features_after} of {self.depth} layers"

  @property
  def attention(self) -> AttentionConfig:
    """The attention of every layer."""
    return AttentionConfig.of_encoder(width=self.width, num_heads=self.num_heads, input_bias=self.qkv_bias)

  @property
  def cells(self) -> int:
    """Vectors along a side of an image."""
    return self.side // self.patch

  @property
  def out_width(self) -> int:
    """Width of the output, by the name it has in every image tower's config."""
    return self.width

  def make(self, *, key: Key) -> "FixedVisionEncoder":
    """Returns a tower with random weights."""
    return FixedVisionEncoder(self, key=key)


# config.json of openai/clip-vit-large-patch14-336, read as in LLaVA-1.5 and EMOVA's llama3_1_clip.py: layer -2.
CLIP_L_336 = FixedVisionConfig(
  side=336,
  patch=14,
  width=1024,
  depth=24,
  features_after=23,
  num_heads=16,
  mlp_dim=4096,
  activation=quick_gelu,
  norm=LayerNorm,
  norm_eps=1e-5,
  qkv_bias=True,
  patch_bias=False,
  class_token=True,
  input_norm=True,
  output_norm=OutputNorm.UNREAD,
)
# config.json of openai/clip-vit-base-patch32, read by Mini-Omni2 (arXiv 2410.11190) to the end, the class token too.
CLIP_B_32 = dataclasses.replace(
  CLIP_L_336,
  side=224,
  patch=32,
  width=768,
  depth=12,
  features_after=12,
  num_heads=12,
  mlp_dim=3072,
  output_norm=OutputNorm.APPLIED,
  keep_class=True,
)
# vision_config of google/siglip-so400m-patch14-384 without its pooling head. EMOVA's siglip_encoder.py deletes the last
# layer and reads what is left before the norm, so its files have depth 26 (`dataclasses.replace(..., depth=26)`).
SIGLIP_SO400M_384 = FixedVisionConfig(
  side=384,
  patch=14,
  width=1152,
  depth=27,
  features_after=26,
  num_heads=16,
  mlp_dim=4304,
  activation=tanh_gelu,
  norm=LayerNorm,
  norm_eps=1e-6,
  qkv_bias=True,
  patch_bias=True,
  class_token=False,
  output_norm=OutputNorm.UNREAD,
  pixel_mean=(0.5, 0.5, 0.5),
  pixel_deviation=(0.5, 0.5, 0.5),
)
# InternVL's table of models and config.json of OpenGVLab/InternViT-300M-448px.
INTERNVIT_300M_448 = FixedVisionConfig(
  side=448,
  patch=14,
  width=1024,
  depth=24,
  features_after=24,
  num_heads=16,
  mlp_dim=4096,
  activation=gelu,
  norm=LayerNorm,
  norm_eps=1e-6,
  qkv_bias=True,
  patch_bias=True,
  class_token=True,
  output_norm=OutputNorm.NONE,
  layer_scale=0.1,
  pixel_mean=IMAGENET_MEAN,
  pixel_deviation=IMAGENET_DEVIATION,
)
# EMOVA's configuration_intern_vit.py with the 45 of 48 layers that OpenGVLab/InternViT-6B-448px-V1-5 keeps.
INTERNVIT_6B_448 = dataclasses.replace(
  INTERNVIT_300M_448,
  width=3200,
  depth=45,
  features_after=45,
  num_heads=25,
  mlp_dim=12_800,
  norm=RMSNorm,
  qkv_bias=False,
  query_key_norm=True,
)
# EMOVA's unit_encoder.py and unit/*.py (UNIT, arXiv 2409.04095; the encoder is RADIO's). The released config.json could
# not be had, and decides: `cpe_max_size` (here the class default, 1024 pixels: 73 x 73 positions), the number of class
# and register tokens (class defaults: 1 and 0), and whether the processor normalises before the tower does (here: no).
# That `fc_norm` has weights, which the wrapper reads, means in timm that the layers end without a norm of their own.
UNIT_1B_448 = FixedVisionConfig(
  side=448,
  patch=14,
  width=1280,
  depth=50,
  features_after=50,
  num_heads=16,
  mlp_dim=5120,
  activation=gelu,
  norm=LayerNorm,
  norm_eps=1e-6,
  qkv_bias=True,
  patch_bias=False,
  class_token=True,
  output_norm=OutputNorm.APPLIED,
  output_norm_eps=1e-5,
  positions_side=73,
  class_position=False,
  resampling=bilinear_corners,
)


class TileAttention(Attention):
  """Attention without positions of its own, every patch to every patch, with normed queries and keys where asked."""

  def __init__(self, config: FixedVisionConfig, *, key: Key):
    super().__init__(config.attention, key=key)
    normed = config.query_key_norm
    self.query_norm = RMSNorm(width=config.width, eps=config.norm_eps) if normed else None
    self.key_norm = RMSNorm(width=config.width, eps=config.norm_eps) if normed else None

  @typed
  def __call__(self, x: Hidden) -> Hidden:
    """Returns what is added to the residual stream."""
    queries, keys = self.query(x), self.key(x)
    if self.query_norm is not None and self.key_norm is not None:
      queries, keys = self.query_norm(queries), self.key_norm(keys)
    queries, keys, values = (
      y.reshape(*y.shape[:2], self.config.num_heads, -1).swapaxes(1, 2) for y in (queries, keys, self.value(x))
    )
    require_parts("heads", self.config.num_heads, what="heads")
    queries, keys, values = constrain(queries, QUERY_AXES), constrain(keys, KEY_AXES), constrain(values, KEY_AXES)
    everything = jnp.ones((1, 1, 1), bool)
    mixed = attend(queries, Memory(keys, values, everything))
    return self.output(mixed.swapaxes(1, 2).reshape(x.shape))


class TileBlock(nnx.Module):
  """Attention, then a feed-forward network, each on the normalised stream, scaled where asked and added to it."""

  def __init__(self, config: FixedVisionConfig, *, key: Key):
    attention, feed_forward = jax.random.split(key)
    self.attention_norm = config.norm(width=config.width, eps=config.norm_eps)
    self.attention = TileAttention(config, key=attention)
    self.attention_scale = _scale(config)
    self.feed_forward_norm = config.norm(width=config.width, eps=config.norm_eps)
    self.feed_forward = FeedForward(
      width=config.width,
      mlp_dim=config.mlp_dim,
      outputs=config.width,
      activation=config.activation,
      key=feed_forward,
    )
    self.feed_forward_scale = _scale(config)

  @typed
  def __call__(self, x: Hidden) -> Hidden:
    """Returns the stream after this layer."""
    x = constrain(x + _scaled(self.attention(self.attention_norm(x)), self.attention_scale), STREAM_AXES)
    return constrain(x + _scaled(self.feed_forward(self.feed_forward_norm(x)), self.feed_forward_scale), STREAM_AXES)


class FixedVisionEncoder(nnx.Module):
  """Squares of pixels to one vector per patch."""

  def __init__(self, config: FixedVisionConfig, *, key: Key):
    patches, positions, class_token, blocks = jax.random.split(key, 4)
    self.config = config
    self.patch_embed = Linear(
      config.patch**2 * 3, config.width, axes=(None, "embed"), bias=config.patch_bias, key=patches
    )
    self.class_token = table(class_token, (1, config.width), axes=(None, "embed")) if config.class_token else None
    places = (config.positions_side or config.cells) ** 2 + (config.class_token and config.class_position)
    self.positions = table(positions, (places, config.width), axes=(None, "embed"))
    self.input_norm = LayerNorm(width=config.width, eps=config.norm_eps) if config.input_norm else None
    self.blocks = stack(lambda key: TileBlock(config, key=key), depth=config.depth, key=blocks)
    normed = config.output_norm is not OutputNorm.NONE
    output_eps = config.output_norm_eps or config.norm_eps
    self.output_norm = LayerNorm(width=config.width, eps=output_eps) if normed else None

  @typed
  def __call__(self, tiles: UInt8[Array, "B Y X 3"] | Float[Array, "B Y X 3"]) -> Float[Array, "B cells D"]:
    """Returns one vector per patch, row by row, behind that of the class token where it is read.

    Args:
      tiles: colours 0..255, whatever the dtype; of another side than in training, positions are interpolated.
    """
    config = self.config
    x = fold(layers_between(self.blocks, 0, config.features_after), self.embed(tiles), remat=config.remat)
    if self.output_norm is not None and config.output_norm is OutputNorm.APPLIED:
      x = self.output_norm(x)
    return x[:, 1:] if config.class_token and not config.keep_class else x

  def read(self, batch: Mapping[str, Array], *, project: Callable[[Array], Array]) -> Seen | None:
    """Returns the projected vectors of the images of a batch (`models.emova`), None without images.

    Squares that only fill rows up are not looked at where a whole chunk of them is filling.
    """
    tiles = batch.get("tiles")
    if tiles is None or 0 in tiles.shape:
      return None
    rows, number = tiles.shape[:2]
    chunk = min(self.config.chunk, number) or number

    def look(tiles: Array) -> Array:
      vectors = project(self(tiles.reshape(-1, *tiles.shape[2:])))
      return vectors.reshape(rows, -1, vectors.shape[-1])

    vectors = _in_chunks(look, tiles, batch["tile_segment_ids"] > 0, chunk=chunk)
    return Seen(vectors, batch["tile_layout"])

  def embed(self, tiles: Array) -> Hidden:
    """Returns the input of the first layer, the class token before the patches."""
    config = self.config
    rows, columns = (side // config.patch for side in tiles.shape[1:3])
    mean, deviation = (jnp.array(colours) for colours in (config.pixel_mean, config.pixel_deviation))
    whole = tiles[:, : rows * config.patch, : columns * config.patch].astype(jnp.float32)
    pixels = ((whole / 255 - mean) / deviation).astype(self.patch_embed.weight[...].dtype)
    patches = pixels.reshape(-1, rows, config.patch, columns, config.patch, 3).swapaxes(2, 3)
    x = self.patch_embed(patches.reshape(-1, rows * columns, config.patch**2 * 3))
    in_front = int(config.class_token and config.class_position)
    side = config.positions_side or config.cells
    plane = self.positions[...][in_front:].reshape(side, side, -1)
    x = x + resample(plane, rows=rows, columns=columns, rule=config.resampling).reshape(1, rows * columns, -1)
    if self.class_token is not None:
      first = self.class_token[...] + self.positions[...][:1] if in_front else self.class_token[...]
      x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], *first.shape)), x], axis=1)
    return x if self.input_norm is None else self.input_norm(x)


def _scale(config: FixedVisionConfig) -> nnx.Param | None:
  return None if config.layer_scale is None else constant(config.layer_scale, (config.width,), axes=(None,))


def _scaled(x: Array, scale: nnx.Param | None) -> Array:
  return x if scale is None else x * scale[...]


def _in_chunks(look: Callable[[Array], Array], tiles: Array, is_real: Array, *, chunk: int) -> Array:
  """Returns what `look` makes of `tiles` [B, N, ...], `chunk` of each row at a time; zeros where a chunk has none.

  Every row keeps its place in the batch, so that a batch which is split over devices stays so.
  """
  rows, number = tiles.shape[:2]
  filled = -number % chunk

  def cut(x: Array) -> Array:
    x = jnp.pad(x, ((0, 0), (0, filled)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(rows, -1, chunk, *x.shape[2:]), 1, 0)

  chunks = cut(tiles)
  nothing = jax.eval_shape(look, chunks[0])
  run = look if len(chunks) == 1 else jax.checkpoint(look)

  def one(part: tuple[Array, Array]) -> Array:
    return jax.lax.cond(part[1].any(), run, lambda _: jnp.zeros(nothing.shape, nothing.dtype), part[0])

  vectors = jnp.moveaxis(jax.lax.map(one, (chunks, cut(is_real))), 0, 1)
  return vectors.reshape(rows, -1, vectors.shape[-1])[:, : number * (nothing.shape[1] // chunk)]
