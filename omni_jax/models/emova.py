"""EMOVA (arXiv 2409.18042): image tower, projector and a decoder that reads and writes text, speech units and styles.

Speech has no encoder here: it is tokens of the decoder's vocabulary. Image places have ordinary positions (no M-RoPE).

A batch is a dict of arrays, all with the batch first:

    tokens, positions, segment_ids             [B, T]     segment 0 is padding
    branch_ids                                 [B, T]     several answers to one beginning; absent: none branches
    patches, patch_positions,                  [B, W, P, C], [B, W, P, 2]
    patch_segment_ids                          [B, W, P]  0 is padding; absent or P = 0: no images

A row's patches lie in W windows, each image whole in one, since patches of different windows do not see each other:
one window of many images, or small windows that keep attention cheap where no kernel skips what is masked.

With an image tower of one resolution, instead of patches:

    tiles                                      [B, N, Y, X, 3]   the tiles of all images of a row; absent or N = 0: none
    tile_segment_ids                           [B, N]     0 is padding
    tile_layout                                [B, I]     which vector of them, counted through, takes which image place

Which of the two says `EmovaConfig.image_layout`; `batches.pictures` makes both.
"""

import dataclasses

import jax

from omni_jax.core.arrays import Hidden, Key
from omni_jax.core.config import added
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.downsampling import C_ABSTRACTOR_8B, DownsamplingConfig
from omni_jax.models.fixed_vision_encoder import INTERNVIT_6B_448, FixedVisionConfig
from omni_jax.models.fusion import fill_image_places
from omni_jax.models.language import Batch, LanguageModel
from omni_jax.models.projectors import AnyProjectorConfig, ProjectorConfig
from omni_jax.models.sizes import LLAMA_3_1_8B, QWEN2_5_3B, QWEN2_5_7B, QWEN2_5_72B
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION, VisionConfig
from omni_jax.nn.parameter import table
from omni_jax.prepare.images import PatchLayout
from omni_jax.prepare.tiles import TileLayout


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmovaConfig:
  """The three parts and the token whose places images take.

  Attributes:
    decoder: language model.
    vision: image tower.
    projector: between them.
    image_token: id whose places are taken.
    newline: whether a learned vector ends the lines of tiles (`mm_patch_merge_type` `spatial_unpad`).
  """

  decoder: DecoderConfig
  vision: VisionConfig | FixedVisionConfig
  projector: AnyProjectorConfig
  image_token: int
  newline: bool = added(False)

  def __post_init__(self):
    widths = (self.vision.out_width, self.decoder.width)
    assert (self.projector.inputs, self.projector.outputs) == widths, (
      f"projector {self.projector} does not join {widths}"
    )
    fixed, fewer = isinstance(self.vision, FixedVisionConfig), isinstance(self.projector, DownsamplingConfig)
    assert fixed or not (fewer or self.newline), "squares of vectors and newlines need a tower of one resolution"
    if isinstance(self.vision, FixedVisionConfig) and isinstance(self.projector, DownsamplingConfig):
      cells = self.vision.cells, self.projector.side
      assert cells[0] == cells[1], f"the tower gives {cells[0]} vectors a side, the projector takes {cells[1]}"

  @property
  def image_layout(self) -> PatchLayout | TileLayout:
    """How the batches of this model hold images; its data is cut for the same."""
    vision, projector = self.vision, self.projector
    if isinstance(vision, VisionConfig):
      return PatchLayout(patch=vision.patch, merge=vision.merge)
    cells = projector.out_side if isinstance(projector, DownsamplingConfig) else vision.cells
    return TileLayout(side=vision.side, cells=cells, newline=self.newline)

  def make(self, *, key: Key) -> "Emova":
    """Returns a model with random weights."""
    return Emova(self, key=key)


def emova(base: DecoderConfig) -> EmovaConfig:
  """Returns a published EMOVA size: a Qwen2.5 base with 151,665 text rows, then 4096 units and 15 unused rows.

  Source: config.json of Emova-ollm/emova-qwen-2-5-{3b,7b,72b}-hf. The image id lies in the unused rows.
  """
  return EmovaConfig(
    decoder=dataclasses.replace(base, vocab_size=151_665, extra_vocab_size=155_776 - 151_665),
    vision=QWEN2_VL_7B_VISION,
    projector=ProjectorConfig(inputs=QWEN2_VL_7B_VISION.out_width, outputs=base.width),
    image_token=155_761,
  )


EMOVA_3B, EMOVA_7B, EMOVA_72B = emova(QWEN2_5_3B), emova(QWEN2_5_7B), emova(QWEN2_5_72B)

# The model of the paper's first version (EMOVA's llama3_1_internvit_anyres_8b), of which no weights were published.
# 128,256 rows of the base and 4096 units are a multiple of 128 already. EMOVA gives an image place the id -200, which
# has no row; here it is a row that Llama 3.1 reserves and never uses (<|reserved_special_token_0|>). Images are cut by
# `TileSize(layout=EMOVA_8B_V1.image_layout, grids=GRIDS_OF_NINE)`.
EMOVA_8B_V1 = EmovaConfig(
  decoder=dataclasses.replace(LLAMA_3_1_8B, extra_vocab_size=4096),
  vision=INTERNVIT_6B_448,
  projector=C_ABSTRACTOR_8B,
  image_token=128_002,
  newline=True,
)


class Emova(LanguageModel):
  """A language model that also sees: images take the rows of their places."""

  def __init__(self, config: EmovaConfig, *, key: Key):
    decoder, vision, projector = jax.random.split(key, 3)
    self.config = config
    self.decoder = config.decoder.make(key=decoder)
    self.vision = config.vision.make(key=vision)
    self.projector = config.projector.make(key=projector)
    shape, deviation = (1, config.decoder.width), config.decoder.width**-0.5
    newline = jax.random.fold_in(key, 3)  # a key of its own: the other parts start as without it
    self.newline = table(newline, shape, axes=(None, "embed"), deviation=deviation) if config.newline else None

  def embed(self, batch: Batch) -> Hidden:
    """Returns the decoder's input: token rows, with image vectors in the image places."""
    x = self.decoder.embed.embed(batch["tokens"])
    seen = self.vision.read(batch, project=self.projector)
    if seen is None:
      return x
    newline = None if self.newline is None else self.newline[...]
    is_image = batch["tokens"] == self.config.image_token
    return fill_image_places(x, seen.vectors, seen.layout, is_image=is_image, newline=newline)
