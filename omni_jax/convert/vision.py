"""The image tower as Hugging Face `Qwen2VisionTransformerPretrainedModel`, and EMOVA's whole origin format."""

from omni_jax.convert.language import language_rules
from omni_jax.convert.table import Rule, prefixed
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.vision_encoder import VisionConfig

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


def emova_rules(config: EmovaConfig) -> list[Rule]:
  """Returns the table of EMOVA's origin format (github.com/emova-ollm/EMOVA): one flat file of all three parts."""
  return [
    *prefixed(language_rules(config.decoder), ours="decoder."),
    *prefixed(vision_rules(config.vision), theirs="model.vision_tower.vision_tower.", ours="vision."),
    *_linear("model.mm_projector.0", "projector.feed_forward.up"),
    *_linear("model.mm_projector.2", "projector.feed_forward.down"),
  ]


def _linear(theirs: str, *ours: str) -> list[Rule]:
  weights, biases = (tuple(f"{path}.{part}" for path in ours) for part in ("weight", "bias"))
  return [Rule(f"{theirs}.weight", weights, _TRANSPOSED), Rule(f"{theirs}.bias", biases)]


def _norm(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.scale",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))]
