"""Whole EMOVA folders: weights in shards, config.json in either format, and what processors need; in and out.

A released folder says its decoder in full, its tower and projector by name; ours are read back exactly, by the config
that lies beside (`omni_jax.json`), which is checked against config.json's own numbers.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from omni_jax.convert.emova import HF, ORIGIN, decoder_from_card, emova_rules, import_emova
from omni_jax.convert.folders import read_json, write_json
from omni_jax.convert.language_card import family_of, language_card
from omni_jax.convert.shards import SHARD_BYTES, Folder, write_folder
from omni_jax.convert.table import export_stream
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION, VisionConfig

OWN_CONFIG = "omni_jax.json"
QWEN2_5_TEXT_ROWS = 151_665  # ids of Qwen2.5's tokenizer, before units are added
_MIN_PIXELS, _MAX_PIXELS = 4 * 28 * 28, 4096 * 28 * 28  # EMOVA's limits of an image
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


def export_folder(
  config: EmovaConfig,
  leaves: Mapping[str, Any],
  folder: Path,
  *,
  scheme: str,
  shard_bytes: int = SHARD_BYTES,
) -> dict[str, str]:
  """Writes a model in EMOVA's `origin` or `hf` format and returns tensor -> shard; dtypes stay as they are.

  Args:
    config: of the model.
    leaves: its parameters by dotted path.
    folder: made if missing.
    scheme: which key names and which config.json.
    shard_bytes: most bytes in one file.

  Raises:
    UserError: another scheme, or a model that the scheme cannot say.
  """
  if scheme not in ("origin", "hf"):
    raise UserError(f"scheme {scheme!r}", where="--format", rule="origin or hf", remedy="choose one of these")
  dtype = str(next(iter(leaves.values())).dtype)
  card = _origin_card(config, dtype) if scheme == "origin" else _hf_card(config, dtype)
  layout = ORIGIN if scheme == "origin" else HF
  placed = write_folder(folder, export_stream(emova_rules(config, layout), leaves), shard_bytes=shard_bytes)
  write_json(folder / "config.json", card)
  write_json(folder / OWN_CONFIG, {"model": to_json(config)})
  write_json(folder / "generation_config.json", {"do_sample": False, "max_new_tokens": 4096})
  if isinstance(config.vision, VisionConfig):
    write_json(folder / "preprocessor_config.json", _image_card(config.vision))
  return placed


def import_folder(
  folder: Path, *, text_rows: int = QWEN2_5_TEXT_ROWS, mesh: jax.sharding.Mesh | None = None
) -> tuple[EmovaConfig, dict[str, jax.Array]]:
  """Returns the config and the parameters of a folder in either format, each array where it is to live.

  Args:
    folder: with config.json and safetensors.
    text_rows: ids of the tokenizer before units were added; the rows behind them become the extra table.
    mesh: over which arrays are split; one device by default.

  Raises:
    UserError: the config is not one of EMOVA's, or the weights do not fit it; everything is told at once.
  """
  tensors = Folder(folder)
  config = read_config(folder, text_rows=text_rows)
  return config, import_emova(config, tensors, mesh=mesh)


def read_config(folder: Path, *, text_rows: int) -> EmovaConfig:
  """Returns the config of a folder.

  Raises:
    UserError: no config.json, another architecture, a tower or projector that it does not state in full, or a config
      of ours beside it that says something else.
  """
  card = read_json(folder / "config.json")
  if (folder / OWN_CONFIG).exists():
    config = _own_config(folder)
    stated = decoder_from_card(card, text_rows=config.decoder.vocab_size)
    same = ("width", "depth", "num_heads", "num_kv_heads", "mlp_dim", "vocab_size", "extra_vocab_size", "tied")
    wrong = [name for name in same if getattr(stated, name) != getattr(config.decoder, name)]
    if wrong:
      raise UserError(
        f"{OWN_CONFIG} and config.json differ in {', '.join(wrong)}",
        where=folder,
        rule="both describe the same model",
        remedy=f"copy the folder again, or delete {OWN_CONFIG} if config.json was changed on purpose",
      )
    return config
  decoder = decoder_from_card(card, text_rows=text_rows)
  vision = vision_from(card.get("vision_config") or card.get("mm_vision_tower") or {})
  kind = (card.get("mm_projector_config") or card.get("mm_projector") or {}).get("type")
  if kind != "MLPProjector":
    raise UserError(
      f"projector {kind!r}",
      where=folder / "config.json",
      rule="a folder without a config of ours has the released models' projector, MLPProjector",
      remedy=f"write {OWN_CONFIG} with the model's config beside it",
    )
  projector = ProjectorConfig(inputs=vision.out_width, outputs=decoder.width)
  # The origin format cuts images out of the text (-200); inside, they have the id of the HF format.
  image_token = card.get("image_token_index", text_rows + 4096)
  return EmovaConfig(decoder=decoder, vision=vision, projector=projector, image_token=image_token)


def _own_config(folder: Path) -> EmovaConfig:
  held = read_json(folder / OWN_CONFIG)
  config = from_json(held["model"]) if isinstance(held, dict) and "model" in held else None
  if not isinstance(config, EmovaConfig):
    raise UserError(
      "no EmovaConfig under `model`" if config is None else f"a {type(config).__name__} under `model`",
      where=folder / OWN_CONFIG,
      rule='the file holds {"model": the config of an EMOVA model}',
      remedy=f"copy the folder again, or delete {OWN_CONFIG} of a folder in EMOVA's own format",
    )
  return config


def _origin_card(config: EmovaConfig, dtype: str) -> dict[str, Any]:
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
    "tokenizer_padding_side": "right",
    "tokenizer_model_max_length": 8192,
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "use_mm_proj": True,
  }


def _hf_card(config: EmovaConfig, dtype: str) -> dict[str, Any]:
  if not isinstance(config.vision, VisionConfig) or not isinstance(config.projector, ProjectorConfig):
    raise UserError(
      f"{type(config.vision).__name__} and {type(config.projector).__name__}",
      where="--format hf",
      rule="the HF format was published for the native-resolution tower and the two-layer projector only",
      remedy="write the origin format",
    )
  text = language_card(config.decoder, dtype=dtype) | {
    "tokenizer_model_max_length": 8192,
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


def _tower_card(config: EmovaConfig) -> dict[str, Any]:
  vision = config.vision
  if not isinstance(vision, VisionConfig):
    return {"type": type(vision).__name__, "stated_in": OWN_CONFIG}
  return {
    "type": "Qwen2VisionTower",
    "model_type": "qwen2_vl",
    **{theirs: getattr(vision, ours) for theirs, ours in _VISION_NUMBERS.items()},
    "mlp_ratio": vision.mlp_dim / vision.width,
    "min_pixels": _MIN_PIXELS,
    "max_pixels": _MAX_PIXELS,
  }


def vision_from(card: Mapping[str, Any]) -> VisionConfig:
  """Returns the tower; what a released card leaves out is as in Qwen2-VL."""
  if card.get("type") != "Qwen2VisionTower":
    raise UserError(
      f"image tower {card.get('type')!r}",
      where="config.json",
      rule="a folder without a config of ours has the released models' tower, Qwen2VisionTower",
      remedy=f"write {OWN_CONFIG} with the model's config beside it",
    )
  numbers = {ours: card[theirs] for theirs, ours in _VISION_NUMBERS.items() if theirs in card}
  if "mlp_ratio" in card:
    numbers["mlp_dim"] = round(card["mlp_ratio"] * card.get("embed_dim", QWEN2_VL_7B_VISION.width))
  return dataclasses.replace(QWEN2_VL_7B_VISION, **numbers)


def _projector_card(config: EmovaConfig) -> dict[str, Any]:
  if isinstance(config.projector, ProjectorConfig):
    return {"type": "MLPProjector", "mlp_depth": 2}
  return {"type": type(config.projector).__name__, "stated_in": OWN_CONFIG}


def _image_card(vision: VisionConfig) -> dict[str, Any]:
  return {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": vision.patch,
    "merge_size": vision.merge,
    "temporal_patch_size": vision.temporal_patch,
    "min_pixels": _MIN_PIXELS,
    "max_pixels": _MAX_PIXELS,
    "image_mean": list(vision.pixel_mean),
    "image_std": list(vision.pixel_deviation),
  }
