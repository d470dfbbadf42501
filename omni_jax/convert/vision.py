"""The image towers and projectors under the names of their published files.

Native resolution: Hugging Face `Qwen2VisionTransformerPretrainedModel`. One resolution: `TowerNames`, one value per
naming scheme, gives the same table for all.
"""

import dataclasses

from omni_jax.convert.table import Rule, prefixed
from omni_jax.models.downsampling import ConvolutionMixer, DownsamplingConfig, MiningMixer
from omni_jax.models.fixed_vision_encoder import FixedVisionConfig, OutputNorm
from omni_jax.models.projectors import (
  AnyProjectorConfig,
  IdentityProjectorConfig,
  ProjectorConfig,
  ResidualProjectorConfig,
)
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.nn.norm import RMSNorm

_TRANSPOSED = "outputs inputs -> inputs outputs"


def vision_rules(config: VisionConfig) -> list[Rule]:
  """Returns the table of an image tower; paths are relative to it.

  Their patches are flattened (colour, frame, row, column), ours (frame; row, column, colour).
  """
  sizes = (("time", config.temporal_patch), ("row", config.patch), ("column", config.patch), ("colour", 3))
  embed = "width colour time row column -> (time row column colour) width"
  rules = [Rule("patch_embed.proj.weight", ("patch_embed.weight",), embed, sizes)]
  for theirs, ours in (("norm1", "attention_norm"), ("norm2", "feed_forward_norm")):
    rules += _norm(f"blocks.{{layer}}.{theirs}", f"blocks.{ours}")
  joined = tuple(f"blocks.attention.{name}" for name in ("query", "key", "value"))
  rules += _linear("blocks.{layer}.attn.qkv", *joined)
  rules += _linear("blocks.{layer}.attn.proj", "blocks.attention.output")
  rules += _linear("blocks.{layer}.mlp.fc1", "blocks.feed_forward.up")
  rules += _linear("blocks.{layer}.mlp.fc2", "blocks.feed_forward.down")
  rules += _norm("merger.ln_q", "merger.norm")
  rules += _linear("merger.mlp.0", "merger.feed_forward.up")
  rules += _linear("merger.mlp.2", "merger.feed_forward.down")
  return rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerNames:
  """Their names of the parts of a tower of one resolution; `{layer}` stands in those of a layer.

  Attributes:
    emova: what EMOVA's files have before all of them, behind what stands before every tower.
    class_token: the vector before the patches.
    class_pattern: layout of it.
    patches: of the patch convolution.
    patches_pattern: layout of it.
    positions: the learned plane.
    positions_pattern: layout of it.
    layer: what all names of a layer begin with.
    inputs: query, key and value; one name where they are one tensor.
    output: of attention.
    norms: before attention and before the feed-forward network.
    scales: of what each adds.
    input_norm: before the first layer.
    output_norm: after the last layer.
  """

  emova: str
  class_token: str
  class_pattern: str
  patches: str
  positions: str
  positions_pattern: str
  layer: str
  inputs: tuple[str, ...]
  output: str
  norms: tuple[str, str]
  scales: tuple[str, str] = ("", "")
  input_norm: str = ""
  output_norm: str = ""
  patches_pattern: str = "width colour row column -> (row column colour) width"


# transformers `CLIPVisionModel` and `SiglipVisionModel`. Files written before transformers 5, the released ones among
# them, put `vision_model.` in front (`prefixed`); SigLIP's files also hold a pooling head, `head.*`, to be left out.
CLIP_NAMES = TowerNames(
  emova="vision_model.",
  class_token="embeddings.class_embedding",
  class_pattern="width -> 1 width",
  patches="embeddings.patch_embedding",
  positions="embeddings.position_embedding.weight",
  positions_pattern="place width -> place width",
  layer="encoder.layers.{layer}.",
  inputs=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
  output="self_attn.out_proj",
  norms=("layer_norm1", "layer_norm2"),
  input_norm="pre_layrnorm",  # their spelling
  output_norm="post_layernorm",
)
# OpenGVLab's InternViT (modeling_intern_vit.py), which EMOVA's files use.
INTERNVIT_NAMES = TowerNames(
  emova="",
  class_token="embeddings.class_embedding",
  class_pattern="1 1 width -> 1 width",
  patches="embeddings.patch_embedding",
  positions="embeddings.position_embedding",
  positions_pattern="1 place width -> place width",
  layer="encoder.layers.{layer}.",
  inputs=("attn.qkv",),
  output="attn.proj",
  norms=("norm1", "norm2"),
  scales=("ls1", "ls2"),
)
# transformers `InternVLVisionModel`, the same tower.
INTERNVL_NAMES = TowerNames(
  emova="",
  class_token="embeddings.cls_token",
  class_pattern="1 1 width -> 1 width",
  patches="embeddings.patch_embeddings.projection",
  positions="embeddings.position_embeddings",
  positions_pattern="1 place width -> place width",
  layer="encoder.layer.{layer}.",
  inputs=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
  output="attention.projection_layer",
  norms=("layernorm_before", "layernorm_after"),
  scales=("lambda_1", "lambda_2"),
)
# EMOVA's UNIT (unit_encoder.py, unit/hf_model.py). The released file could not be seen: it also holds an unread
# `unit_model.model.fc_norm`, the constants of `unit_model.input_conditioner`, and a head if it was made with classes.
UNIT_NAMES = TowerNames(
  emova="",
  class_token="vision_tower.unit_model.model.patch_generator.cls_token.token",
  class_pattern="token width -> token width",
  patches="vision_tower.unit_model.model.patch_generator.embedder",
  patches_pattern="width (colour row column) -> (row column colour) width",
  positions="vision_tower.unit_model.model.patch_generator.pos_embed",
  positions_pattern="1 place width -> place width",
  layer="vision_tower.unit_model.model.blocks.{layer}.",
  inputs=("attn.qkv",),
  output="attn.proj",
  norms=("norm1", "norm2"),
  output_norm="norm",
)


def fixed_vision_rules(config: FixedVisionConfig, names: TowerNames) -> list[Rule]:
  """Returns the table of a tower of one resolution; paths are relative to it."""
  sizes = (("row", config.patch), ("column", config.patch), ("colour", 3))
  rules = [
    Rule(f"{names.patches}.weight", ("patch_embed.weight",), names.patches_pattern, sizes),
    Rule(names.positions, ("positions",), names.positions_pattern),
  ]
  if config.patch_bias:
    rules.append(Rule(f"{names.patches}.bias", ("patch_embed.bias",)))
  if config.class_token:
    rules.append(Rule(names.class_token, ("class_token",), names.class_pattern))
  if config.input_norm:
    rules += _norm(names.input_norm, "input_norm")
  if config.output_norm is not OutputNorm.NONE:
    rules += _norm(names.output_norm, "output_norm")
  return rules + prefixed(_fixed_layer(config, names), theirs=names.layer, ours="blocks.")


def _fixed_layer(config: FixedVisionConfig, names: TowerNames) -> list[Rule]:
  inputs = ["attention.query", "attention.key", "attention.value"]
  rules: list[Rule] = []
  # As many groups of ours as they have tensors: one of three, or three of one.
  share = len(inputs) // len(names.inputs)
  for index, theirs in enumerate(names.inputs):
    rules += _linear(theirs, *inputs[index * share : (index + 1) * share], bias=config.qkv_bias)
  rules += _linear(names.output, "attention.output")
  if config.query_key_norm:
    # Beside the input maps: `attn.qkv` -> `attn.q_norm`.
    place = names.output.rpartition(".")[0]
    rules += [Rule(f"{place}.{short}_norm.weight", (f"attention.{ours}_norm.scale",)) for short, ours in _QUERY_KEY]
  rules += _linear("mlp.fc1", "feed_forward.up") + _linear("mlp.fc2", "feed_forward.down")
  for theirs, ours in zip(names.norms, ("attention_norm", "feed_forward_norm"), strict=True):
    rules += _norm(theirs, ours, bias=config.norm is not RMSNorm)
  if config.layer_scale is not None:
    halves = ("attention_scale", "feed_forward_scale")
    rules += [Rule(theirs, (ours,)) for theirs, ours in zip(names.scales, halves, strict=True)]
  return rules


def projector_rules(config: AnyProjectorConfig) -> list[Rule]:
  """Returns the table of a projector under EMOVA's names; paths are relative to it."""
  match config:
    case ProjectorConfig():
      return _linear("0", "feed_forward.up") + _linear("2", "feed_forward.down")
    case IdentityProjectorConfig():
      return []
    case ResidualProjectorConfig():
      rules = _linear("proj.0", "feed_forward.up") + _linear("proj.2", "feed_forward.down")
      return rules + _norm("pre_norm", "norm")
    case DownsamplingConfig():
      rules = _linear("mlp.0", "feed_forward.up") + _linear("mlp.2", "feed_forward.down")
      if config.input_norm:
        rules += _norm("norm", "norm")
      if config.positions:
        rules.append(Rule("pos_emb", ("positions",)))
      return rules + prefixed(_mixer_rules(config), theirs="downsampler.", ours="mixer.")


def _mixer_rules(config: DownsamplingConfig) -> list[Rule]:
  match config.mixer:
    case ConvolutionMixer(width=width, depth=depth):
      # `downsampler.1` is the mean over cells. In a stage only the first block may change the width.
      blocks = [(place, stage, index) for place, stage in ((0, "before"), (2, "after")) for index in range(depth)]
      widens = config.inputs != width
      return [
        rule
        for place, stage, index in blocks
        for rule in prefixed(
          _bottleneck(shortcut=widens and (stage, index) == ("before", 0)),
          theirs=f"{place}.b{index + 1}.",
          ours=f"{stage}.{index}.",
        )
      ]
    case MiningMixer():
      rules = [Rule("to_q.weight", ("query.weight",), _TRANSPOSED)]
      rules.append(Rule("to_kv.weight", ("key.weight", "value.weight"), _TRANSPOSED))
      return rules + _norm("norm_media", "query_norm") + _norm("norm_context", "context_norm")
    case _:
      return []


def _bottleneck(*, shortcut: bool) -> list[Rule]:
  pointwise = "outputs inputs 1 1 -> inputs outputs"
  pairs = [("conv1", "narrow"), ("conv3", "widen")] + ([("downsample", "shortcut")] if shortcut else [])
  rules = [Rule("conv2.conv.weight", ("neighbours",), "channel 1 row column -> row column channel")]
  rules += _norm("conv2.bn", "neighbours_norm")
  for theirs, ours in pairs:
    rules.append(Rule(f"{theirs}.conv.weight", (f"{ours}.weight",), pointwise))
    rules += _norm(f"{theirs}.bn", f"{ours}_norm")
  for theirs, ours in (("se.fc1", "squeeze"), ("se.fc2", "excite")):
    rules.append(Rule(f"{theirs}.weight", (f"{ours}.weight",), pointwise))
    rules.append(Rule(f"{theirs}.bias", (f"{ours}.bias",)))
  return rules


def tower_rules(config: VisionConfig | FixedVisionConfig) -> list[Rule]:
  """Returns the table of any tower under the names it has in EMOVA's files; paths are relative to it.

  What stands before them there is `model.vision_tower.vision_tower.`; for UNIT, one level less.
  """
  if isinstance(config, VisionConfig):
    return vision_rules(config)
  names = _names(config)
  return prefixed(fixed_vision_rules(config, names), theirs=names.emova)


def _names(config: FixedVisionConfig) -> TowerNames:
  # Told apart by what only one family has.
  if config.layer_scale is not None:
    return INTERNVIT_NAMES
  return UNIT_NAMES if config.class_token and not config.class_position else CLIP_NAMES


_QUERY_KEY = (("q", "query"), ("k", "key"))


def _linear(theirs: str, *ours: str, bias: bool = True) -> list[Rule]:
  weights, biases = (tuple(f"{path}.{part}" for path in ours) for part in ("weight", "bias"))
  rules = [Rule(f"{theirs}.weight", weights, _TRANSPOSED), Rule(f"{theirs}.bias", biases)]
  return rules if bias else rules[:1]


def _norm(theirs: str, ours: str, bias: bool = True) -> list[Rule]:
  rules = [Rule(f"{theirs}.weight", (f"{ours}.scale",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))]
  return rules if bias else rules[:1]
