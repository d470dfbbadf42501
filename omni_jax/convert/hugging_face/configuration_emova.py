"""What an EMOVA folder's config.json says, for `transformers` (5 or newer); no part of the JAX package.

Two formats: `emova` keeps the language model's config inside (`text_config`), `emova_qwen2` and `emova_llama` are that
config with a few fields more. Both describe the image tower and the projector in a dict each.
"""

from typing import Any

from transformers import AutoConfig, LlamaConfig, PreTrainedConfig, Qwen2Config
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig

IMAGE_SENTINEL = -200  # the id of an image in EMOVA's own code, which lies outside of the vocabulary


def tower_config(card: Any) -> Qwen2VLVisionConfig:
  """Returns the config of the image tower; what the card leaves out is as in Qwen2-VL."""
  if isinstance(card, Qwen2VLVisionConfig):
    return card
  fields = dict(card or {})
  if fields.get("type", "Qwen2VisionTower") != "Qwen2VisionTower":
    raise ValueError(f"image tower {fields['type']!r}: this file computes the Qwen2VisionTower only")
  ratio = fields.pop("mlp_ratio", 4)
  config = Qwen2VLVisionConfig(**fields)
  # Past the check of that class: it wants a whole number, the tower itself rounds the product.
  object.__setattr__(config, "mlp_ratio", ratio)
  return config


def projector_depth(card: Any) -> int:
  """Returns the number of linear maps of the projector."""
  fields = dict(card or {})
  if fields.get("type", "MLPProjector") != "MLPProjector":
    raise ValueError(f"projector {fields['type']!r}: this file computes the MLPProjector only")
  return fields.get("mlp_depth", 2)


class EMOVAConfig(PreTrainedConfig):
  """A language model, an image tower and a projector, each with a config of its own."""

  model_type = "emova"
  # Theirs is a dict or computes one, by version.
  sub_configs = {"text_config": AutoConfig, "vision_config": Qwen2VLVisionConfig}  # noqa: RUF012 # pyright: ignore[reportAssignmentType]

  def __init__(
    self,
    text_config: Any = None,
    vision_config: Any = None,
    mm_projector_config: dict[str, Any] | None = None,
    image_token_index: int = 155_761,
    tie_word_embeddings: bool | None = None,
    **kwargs: Any,
  ):
    """Reads the parts; each may be a dict or a config."""
    text = text_config if text_config is not None else {}
    if isinstance(text, dict):
      tied = {} if tie_word_embeddings is None else {"tie_word_embeddings": tie_word_embeddings}
      fields = {"model_type": "qwen2", **tied, **text}
      text = AutoConfig.for_model(**fields)
    self.text_config = text
    self.vision_config = tower_config(vision_config)
    self.mm_projector_config = dict(mm_projector_config or {"type": "MLPProjector", "mlp_depth": 2})
    self.image_token_index = image_token_index
    super().__init__(**kwargs)
    self.tie_word_embeddings = text.tie_word_embeddings


class EmovaQwen2Config(Qwen2Config):
  """Qwen2's config, with `mm_vision_tower` and `mm_projector` beside."""

  model_type = "emova_qwen2"


class EmovaLlamaConfig(LlamaConfig):
  """Llama's config, with `mm_vision_tower` and `mm_projector` beside."""

  model_type = "emova_llama"
