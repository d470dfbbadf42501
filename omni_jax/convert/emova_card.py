"""The config.json of EMOVA's folders, in the `origin` and the `hf` format, both ways.

The decoder's numbers are those of `language_card`. Tower and projector are a dict each, whose `type` is the class in
EMOVA's code.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from omni_jax.convert.emova import decoder_from_card
from omni_jax.convert.language_card import family_of, language_card
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION, VisionConfig

_MIN_PIXELS, _MAX_PIXELS = 4 * 28 * 28, 4096 * 28 * 28  # EMOVA's limits of an image
_MAX_LENGTH = 8192  # tokens, as EMOVA was trained
_OWN = {"stated_in": "omni_jax.json"}  # of a part that EMOVA has no name for
_WRAPPERS = {"qwen2": ("emova_qwen2", "EmovaQwen2ForCausalLM"), "llama": ("emova_llama", "EmovaLlamaForCausalLM"),
             "deepseek_v2": ("emova_deepseekv2", "EmovaDeepseekV2ForCausalLM")}  # fmt: skip
# Their name -> ours of a number of the tower.
_VISION_NUMBERS = {
  "depth": "depth",
  "embed_dim": "width",
  "num_heads": "num_heads",
  "hidden_size": "out_width",
  "patch_size": "patch",
  "spatial_merge_size": "merge",
  "temporal_patch_size": "temporal_patch",
}


def origin_card(config: EmovaConfig, *, dtype: str) -> dict[str, Any]:
  """Returns the config.json of the origin format: the decoder's, and what EMOVA's code adds to it.

  Raises:
    UserError: the format cannot say the decoder or the tower.
  """
  model_type, architecture = _WRAPPERS[family_of(config.decoder)]
  native = isinstance(config.vision, VisionConfig)
  return language_card(config.decoder, dtype=dtype) | {
    "model_type": model_type,
    "architectures": [architecture],
    "mm_vision_tower": _tower_card(config),
    "mm_projector": _projector_card(config),
    "mm_hidden_size": config.vision.out_width,
    "mm_patch_merge_type": "spatial_unpad" if config.newline else "flat",
    "image_aspect_ratio": "native_anyres" if native else "anyres",
    "image_token_index": config.image_token,  # EMOVA's own code cuts images out of the text instead
    "tokenizer_padding_side": "right",
    "tokenizer_model_max_length": _MAX_LENGTH,
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "use_mm_proj": True,
  }


def hf_card(config: EmovaConfig, *, dtype: str) -> dict[str, Any]:
  """Returns the config.json of the HF format, where each part has a config.

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
    "mm_projector_config": _projector_card(config),
    "text_config": text,
    "vision_config": _tower_card(config),
    "tie_word_embeddings": config.decoder.tied,
    "torch_dtype": dtype,
  }


def image_card(vision: VisionConfig, *, with_code: bool) -> dict[str, Any]:
  """Returns the preprocessor_config.json of the native-resolution tower.

  Args:
    vision: the tower.
    with_code: whether the folder has our image processor, which keeps EMOVA's rule for images below one cell;
      transformers' own is named besides, and differs there only.
  """
  own = {f"Auto{part}": f"processing_emova.EMOVA{part}" for part in ("ImageProcessor", "Processor")}
  return {
    "image_processor_type": "Qwen2VLImageProcessor",
    **({"auto_map": own, "processor_class": "EMOVAProcessor"} if with_code else {}),
    "patch_size": vision.patch,
    "merge_size": vision.merge,
    "temporal_patch_size": vision.temporal_patch,
    "min_pixels": _MIN_PIXELS,
    "max_pixels": _MAX_PIXELS,
    "image_mean": list(vision.pixel_mean),
    "image_std": list(vision.pixel_deviation),
  }


def config_of(card: Mapping[str, Any], *, text_rows: int, remedy: str) -> EmovaConfig:
  """Returns the config that a config.json in either format states.

  Args:
    card: its content.
    text_rows: ids of the tokenizer before units were added.
    remedy: what to do where it does not state a part in full.

  Raises:
    UserError: another architecture, or a tower or projector that the card does not state in full.
  """
  decoder = decoder_from_card(card, text_rows=text_rows)
  vision = _vision_from(card.get("vision_config") or card.get("mm_vision_tower") or {}, remedy=remedy)
  kind = (card.get("mm_projector_config") or card.get("mm_projector") or {}).get("type")
  if kind != "MLPProjector":
    raise UserError(
      f"projector {kind!r}",
      where="config.json",
      rule="a folder without a config of ours has the released models' projector, MLPProjector",
      remedy=remedy,
    )
  projector = ProjectorConfig(inputs=vision.out_width, outputs=decoder.width)
  # The origin format cuts images out of the text (-200); inside, they have the id of the HF format.
  image_token = card.get("image_token_index", text_rows + 4096)
  return EmovaConfig(decoder=decoder, vision=vision, projector=projector, image_token=image_token)


def _tower_card(config: EmovaConfig) -> dict[str, Any]:
  vision = config.vision
  if not isinstance(vision, VisionConfig):
    return {"type": type(vision).__name__, **_OWN}
  return {
    "type": "Qwen2VisionTower",
    "model_type": "qwen2_vl",
    **{theirs: getattr(vision, ours) for theirs, ours in _VISION_NUMBERS.items()},
    "mlp_ratio": _ratio(vision),
    "min_pixels": _MIN_PIXELS,
    "max_pixels": _MAX_PIXELS,
  }


def _ratio(vision: VisionConfig) -> float:
  """Returns the number whose product with the width, cut to a whole one, is the inner width."""
  if vision.mlp_dim % vision.width == 0:
    return vision.mlp_dim // vision.width
  ratio = vision.mlp_dim / vision.width
  return ratio if int(vision.width * ratio) == vision.mlp_dim else math.nextafter(ratio, math.inf)


def _vision_from(card: Mapping[str, Any], *, remedy: str) -> VisionConfig:
  """Returns the tower; what a released card leaves out is as in Qwen2-VL."""
  if card.get("type") != "Qwen2VisionTower":
    raise UserError(
      f"image tower {card.get('type')!r}",
      where="config.json",
      rule="a folder without a config of ours has the released models' tower, Qwen2VisionTower",
      remedy=remedy,
    )
  numbers = {ours: card[theirs] for theirs, ours in _VISION_NUMBERS.items() if theirs in card}
  if "mlp_ratio" in card:
    numbers["mlp_dim"] = round(card["mlp_ratio"] * card.get("embed_dim", QWEN2_VL_7B_VISION.width))
  return dataclasses.replace(QWEN2_VL_7B_VISION, **numbers)


def _projector_card(config: EmovaConfig) -> dict[str, Any]:
  if isinstance(config.projector, ProjectorConfig):
    return {"type": "MLPProjector", "mlp_depth": 2}
  return {"type": type(config.projector).__name__, **_OWN}
