"""Image towers and projectors in EMOVA's config.json, both ways: a dict each, `type` the class in EMOVA's code.

The native-resolution tower states its numbers; a tower of one resolution names the published model whose numbers it
has, and the layer that is read. A tower of other sizes has no name there: it is stated in our own config only.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.models.downsampling import (
  ConcatenationMixer,
  ConvolutionMixer,
  DownsamplingConfig,
  MeanMixer,
  MiningMixer,
)
from omni_jax.models.fixed_vision_encoder import (
  CLIP_L_336,
  INTERNVIT_6B_448,
  INTERNVIT_300M_448,
  SIGLIP_SO400M_384,
  UNIT_1B_448,
  FixedVisionConfig,
)
from omni_jax.models.projectors import (
  AnyProjectorConfig,
  IdentityProjectorConfig,
  ProjectorConfig,
  ResidualProjectorConfig,
)
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION, VisionConfig

OWN_CONFIG = "omni_jax.json"  # beside config.json
_OWN = {"stated_in": OWN_CONFIG}
_REMEDY = f"write {OWN_CONFIG} with the model's config beside it"
# Their name -> ours of a number of the native-resolution tower.
_NATIVE_NUMBERS = {
  "depth": "depth",
  "embed_dim": "width",
  "num_heads": "num_heads",
  "hidden_size": "out_width",
  "patch_size": "patch",
  "spatial_merge_size": "merge",
  "temporal_patch_size": "temporal_patch",
}
# (type, published model) -> config; the first type of a model is written. EMOVA's SigLIP files lack the last layer, and
# its configs call the UNIT tower by the name of a class that its code does not have.
_FIXED: dict[tuple[str, str], FixedVisionConfig] = {
  ("CLIPVisionTower", "openai/clip-vit-large-patch14-336"): CLIP_L_336,
  ("SigLipVisionTower", "google/siglip-so400m-patch14-384"): dataclasses.replace(SIGLIP_SO400M_384, depth=26),
  ("InternVisionTower", "OpenGVLab/InternViT-300M-448px"): INTERNVIT_300M_448,
  ("InternVisionTower", "OpenGVLab/InternViT-6B-448px-V1-5"): INTERNVIT_6B_448,
  ("UNITVisionTower", "yeeaa/UNIT_1B"): UNIT_1B_448,
  ("RADIODistillMultiVisionTower_1B", "yeeaa/UNIT_1B"): UNIT_1B_448,
}
_SELECTING = ("CLIPVisionTower", "InternVisionTower")  # say which layer is read
_DOWNSAMPLING = {
  ConvolutionMixer: "CAbstractorMMProjector",
  MiningMixer: "SelfMiningMMProjector",
  MeanMixer: "AvgPoolMMProjector",
  ConcatenationMixer: "ConcatChannelMMProjector",
}
_MINING_HEAD = 64  # EMOVA's width of a head


def tower_card(vision: VisionConfig | FixedVisionConfig, *, pixels: tuple[int, int]) -> dict[str, Any]:
  """Returns the dict of a tower; `pixels` are the least and most of an image of native resolution.

  Raises:
    UserError: a native-resolution tower with a constant that the class has otherwise.
  """
  if isinstance(vision, FixedVisionConfig):
    return _fixed_card(vision)
  same = ("rope_theta", "norm_eps")
  if wrong := [name for name in same if getattr(vision, name) != getattr(QWEN2_VL_7B_VISION, name)]:
    raise UserError(
      ", ".join(f"{name} {getattr(vision, name)}" for name in wrong),
      where="image tower",
      rule=", ".join(f"{name} is {getattr(QWEN2_VL_7B_VISION, name)} in every Qwen2VisionTower" for name in wrong),
      remedy="train with this value to export in this format",
    )
  return {
    "type": "Qwen2VisionTower",
    "model_type": "qwen2_vl",
    **{theirs: getattr(vision, ours) for theirs, ours in _NATIVE_NUMBERS.items()},
    "mlp_ratio": _ratio(vision),
    "min_pixels": pixels[0],
    "max_pixels": pixels[1],
  }


def tower_from(card: Mapping[str, Any]) -> VisionConfig | FixedVisionConfig:
  """Returns the tower of a dict.

  Raises:
    UserError: a tower that the dict does not state in full.
  """
  kind, path = str(card.get("type")), str(card.get("pretrained_model_name_or_path"))
  known = {(name, model.rpartition("/")[2]): config for (name, model), config in _FIXED.items()}
  # A path may be that of a copy on disk, which ends like the published one.
  config = known.get((kind, path.rstrip("/").rpartition("/")[2]))
  if config is None:
    return vision_from(card)
  if kind not in _SELECTING:
    return config
  return dataclasses.replace(config, features_after=config.depth + 1 + card.get("mm_vision_select_layer", -1))


def vision_from(card: Mapping[str, Any]) -> VisionConfig:
  """Returns the native-resolution tower of a dict; what a released card leaves out is as in Qwen2-VL.

  Raises:
    UserError: another tower.
  """
  if card.get("type") != "Qwen2VisionTower":
    raise UserError(
      f"image tower {card.get('type')!r}",
      where="config.json",
      rule="a folder without a config of ours has Qwen2VisionTower, or a published model of: "
      + ", ".join(dict.fromkeys(kind for kind, _ in _FIXED)),
      remedy=_REMEDY,
    )
  numbers = {ours: card[theirs] for theirs, ours in _NATIVE_NUMBERS.items() if theirs in card}
  if "mlp_ratio" in card:
    numbers["mlp_dim"] = round(card["mlp_ratio"] * card.get("embed_dim", QWEN2_VL_7B_VISION.width))
  return dataclasses.replace(QWEN2_VL_7B_VISION, **numbers)


def projector_card(config: AnyProjectorConfig) -> dict[str, Any]:
  """Returns the dict of a projector."""
  match config:
    case ProjectorConfig():
      return {"type": "MLPProjector", "mlp_depth": 2}
    case IdentityProjectorConfig():
      return {"type": "IdentityMap"}
    case ResidualProjectorConfig():
      return {"type": "SimpleResBlock", "channels": config.inputs}
    case DownsamplingConfig():
      return _downsampling_card(config)


def projector_from(card: Mapping[str, Any], *, inputs: int, outputs: int) -> AnyProjectorConfig:
  """Returns the projector of a dict between these widths.

  Raises:
    UserError: a projector that the dict does not state in full.
  """
  match card.get("type"):
    case "MLPProjector" if card.get("mlp_depth", 2) == 2:
      return ProjectorConfig(inputs=inputs, outputs=outputs)
    case "IdentityMap":
      return IdentityProjectorConfig(inputs=inputs)
    case "SimpleResBlock":
      return ResidualProjectorConfig(inputs=inputs)
    case kind if kind in _DOWNSAMPLING.values() and "stated_in" not in card and card.get("mlp_depth", 2) == 2:
      return _downsampling_from(card, inputs=inputs, outputs=outputs)
  raise UserError(
    f"projector {card.get('type')!r}" + (f" of depth {card['mlp_depth']}" if "mlp_depth" in card else ""),
    where="config.json",
    rule="a folder without a config of ours has a projector of depth 2: MLPProjector, IdentityMap, SimpleResBlock, "
    + ", ".join(_DOWNSAMPLING.values()),
    remedy=_REMEDY,
  )


def _fixed_card(vision: FixedVisionConfig) -> dict[str, Any]:
  for (kind, model), config in _FIXED.items():
    if vision.depth != config.depth:
      continue
    read = vision.features_after if kind in _SELECTING else config.features_after
    if dataclasses.replace(config, features_after=read, remat=vision.remat) == vision:
      card: dict[str, Any] = {"type": kind, "pretrained_model_name_or_path": model}
      if kind in _SELECTING:
        selected = vision.features_after - vision.depth - 1
        card |= {"mm_vision_select_layer": selected, "mm_vision_select_feature": "patch"}
      return card
  return {"type": type(vision).__name__, **_OWN}


def _downsampling_card(config: DownsamplingConfig) -> dict[str, Any]:
  mixer = config.mixer
  rate = (config.side / config.out_side) ** 2
  card = {
    "type": _DOWNSAMPLING[type(mixer)],
    "downsample_rate": int(rate) if rate.is_integer() else rate,
    "downsample_size": [config.out_side, config.out_side],
    "num_input_token": config.side**2,
    "add_pos_embed": config.positions,
    "add_pre_norm": config.input_norm,
  }
  if isinstance(mixer, ConvolutionMixer):
    card |= {"conv_block_depth": mixer.depth, "conv_hidden_size": mixer.width}
  return card | (_OWN if isinstance(mixer, MiningMixer) and mixer.head_dim != _MINING_HEAD else {})


def _downsampling_from(card: Mapping[str, Any], *, inputs: int, outputs: int) -> DownsamplingConfig:
  # What is left out has the default of EMOVA's classes.
  size = card.get("downsample_size")
  number = card.get("num_input_token", 576)
  out_side, other = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
  side = math.isqrt(number)
  if not isinstance(out_side, int) or out_side != other or side**2 != number:
    raise UserError(
      f"downsample_size {size!r} of {number} vectors",
      where="config.json",
      rule="a projector makes a smaller square of a square",
      remedy=_REMEDY,
    )
  mixers = {
    "CAbstractorMMProjector": ConvolutionMixer(
      width=card.get("conv_hidden_size", 1024), depth=card.get("conv_block_depth", 3)
    ),
    "SelfMiningMMProjector": MiningMixer(head_dim=_MINING_HEAD),
    "AvgPoolMMProjector": MeanMixer(),
    "ConcatChannelMMProjector": ConcatenationMixer(),
  }
  return DownsamplingConfig(
    inputs=inputs,
    outputs=outputs,
    side=side,
    out_side=out_side,
    mixer=mixers[card["type"]],
    input_norm=card.get("add_pre_norm", False),
    positions=card.get("add_pos_embed", False),
  )


def _ratio(vision: VisionConfig) -> float:
  """Returns the number whose product with the width, cut to a whole one, is the inner width."""
  if vision.mlp_dim % vision.width == 0:
    return vision.mlp_dim // vision.width
  ratio = vision.mlp_dim / vision.width
  return ratio if int(vision.width * ratio) == vision.mlp_dim else math.nextafter(ratio, math.inf)
