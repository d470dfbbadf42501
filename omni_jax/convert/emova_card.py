"""The config.json of EMOVA's folders, in the `origin` and the `hf` format, both ways.

The decoder's numbers are those of `language_card`; tower and projector are in `part_cards`.
"""

from collections.abc import Mapping
from typing import Any

from omni_jax.convert.emova import decoder_from_card
from omni_jax.convert.language_card import family_of, language_card
from omni_jax.convert.part_cards import projector_card, projector_from, tower_card, tower_from
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.prepare.tiles import GRIDS_OF_NINE

PIXELS = (4 * 28 * 28, 4096 * 28 * 28)  # EMOVA's least and most of an image
_MAX_LENGTH = 8192  # tokens, as EMOVA was trained
_WRAPPERS = {"qwen2": ("emova_qwen2", "EmovaQwen2ForCausalLM"), "llama": ("emova_llama", "EmovaLlamaForCausalLM"),
             "deepseek_v2": ("emova_deepseekv2", "EmovaDeepseekV2ForCausalLM")}  # fmt: skip


def origin_card(config: EmovaConfig, *, dtype: str, pixels: tuple[int, int] = PIXELS) -> dict[str, Any]:
  """Returns the config.json of the origin format: the decoder's, and what EMOVA's code adds to it.

  Args:
    config: of the model.
    dtype: of the tensors.
    pixels: least and most of an image of native resolution.

  Raises:
    UserError: the format cannot say the decoder or the tower.
  """
  model_type, architecture = _WRAPPERS[family_of(config.decoder)]
  vision = config.vision
  if isinstance(vision, VisionConfig):
    images: dict[str, Any] = {"image_aspect_ratio": "native_anyres"}
  elif config.newline:
    grids = [[columns * vision.side, rows * vision.side] for columns, rows in GRIDS_OF_NINE]
    images = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": grids}
  else:
    images = {"image_aspect_ratio": "pad"}
  return language_card(config.decoder, dtype=dtype) | {
    "model_type": model_type,
    "architectures": [architecture],
    "mm_vision_tower": tower_card(config.vision, pixels=pixels),
    "mm_projector": projector_card(config.projector),
    "mm_hidden_size": vision.out_width,
    "mm_patch_merge_type": "spatial_unpad" if config.newline else "flat",
    **images,
    "image_token_index": config.image_token,  # EMOVA's own code cuts images out of the text instead
    "tokenizer_padding_side": "right",
    "tokenizer_model_max_length": _MAX_LENGTH,
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "use_mm_proj": True,
  }


def hf_card(config: EmovaConfig, *, dtype: str, pixels: tuple[int, int] = PIXELS) -> dict[str, Any]:
  """Returns the config.json of the HF format, where each part has a config.

  Args:
    config: of the model.
    dtype: of the tensors.
    pixels: least and most of an image.

  Raises:
    UserError: the format cannot say the decoder, the tower or the projector.
  """
  if not isinstance(config.vision, VisionConfig) or not isinstance(config.projector, ProjectorConfig):
    raise UserError(
      f"{type(config.vision).__name__} and {type(config.projector).__name__}",
      where="--format hf",
      rule="the HF format was published for the native-resolution tower and the two-layer projector only",
      remedy="write the origin format",
    )
  text = language_card(config.decoder, dtype=dtype) | {
    "tokenizer_model_max_length": _MAX_LENGTH,
    "tokenizer_padding_side": "left",
  }
  return {
    "architectures": ["EMOVAForConditionalGeneration"],
    "model_type": "emova",
    "ignore_index": -100,
    "image_token_index": config.image_token,
    "mm_projector_config": projector_card(config.projector),
    "text_config": text,
    "vision_config": tower_card(config.vision, pixels=pixels),
    "tie_word_embeddings": config.decoder.tied,
    "torch_dtype": dtype,
  }


def image_card(vision: VisionConfig, *, with_code: bool, pixels: tuple[int, int] = PIXELS) -> dict[str, Any]:
  """Returns the preprocessor_config.json of the native-resolution tower.

  Args:
    vision: the tower.
    with_code: whether the folder has our image processor, which keeps EMOVA's rule for images below one cell;
      transformers' own is named besides, and differs there only.
    pixels: least and most of an image.
  """
  own = {f"Auto{part}": f"processing_emova.EMOVA{part}" for part in ("ImageProcessor", "Processor")}
  return {
    "image_processor_type": "Qwen2VLImageProcessor",
    **({"auto_map": own, "processor_class": "EMOVAProcessor"} if with_code else {}),
    "patch_size": vision.patch,
    "merge_size": vision.merge,
    "temporal_patch_size": vision.temporal_patch,
    "min_pixels": pixels[0],
    "max_pixels": pixels[1],
    "image_mean": list(vision.pixel_mean),
    "image_std": list(vision.pixel_deviation),
  }


def config_of(card: Mapping[str, Any], *, text_rows: int) -> EmovaConfig:
  """Returns the config that a config.json in either format states.

  Args:
    card: its content.
    text_rows: ids of the tokenizer before units were added.

  Raises:
    UserError: another architecture, or a tower or projector that the card does not state in full.
  """
  decoder = decoder_from_card(card, text_rows=text_rows)
  vision = tower_from(card.get("vision_config") or card.get("mm_vision_tower") or {})
  stated = card.get("mm_projector_config") or card.get("mm_projector") or {}
  projector = projector_from(stated, inputs=vision.out_width, outputs=decoder.width)
  # EMOVA's own origin format cuts images out of the text (-200); inside, they have the id of the HF format.
  image_token = card.get("image_token_index", text_rows + 4096)
  newline = "unpad" in card.get("mm_patch_merge_type", "")
  return EmovaConfig(decoder=decoder, vision=vision, projector=projector, image_token=image_token, newline=newline)
