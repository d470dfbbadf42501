"""EMOVA (arXiv 2409.18042) for `transformers` (5 or newer), of its stock parts; no part of the JAX package.

    pixel_values, image_grid_thw -> Qwen2-VL's image tower -> linear, GELU, linear -> vectors
    input_ids -> token table, image places take the vectors -> Qwen2 or Llama -> logits

Speech is tokens. An image has as many places in `input_ids` as the tower gives vectors: a quarter of its patches
(`EMOVAProcessor` writes them). A place holds `image_token_index`, or -200 as in EMOVA's own code. Positions are 0, 1,
2, ... over text and images alike.

The two formats hold the same tensors under other names:

    EMOVAForConditionalGeneration                  language_model.model.*   vision_tower.*   mm_projector.*
    EmovaQwen2ForCausalLM, EmovaLlamaForCausalLM   model.*   model.vision_tower.vision_tower.*   model.mm_projector.*
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationMixin, LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from .configuration_emova import (
  IMAGE_SENTINEL,
  EMOVAConfig,
  EmovaLlamaConfig,
  EmovaQwen2Config,
  projector_depth,
  tower_config,
)


def make_projector(inputs: int, outputs: int, depth: int) -> nn.Sequential:
  """Returns linear maps with GELUs between them."""
  layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
  for _ in range(depth - 1):
    layers += [nn.GELU(), nn.Linear(outputs, outputs)]
  return nn.Sequential(*layers)


def image_vectors(model: Any, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor) -> torch.Tensor:
  """Returns the vectors of all images, [N, D], one after another.

  Args:
    model: has `tower` and `projector`.
    pixel_values: [P, C] normalised patches of all images in cell order, as Qwen2-VL's image processor makes them.
    image_grid_thw: [images, 3] frames, rows and columns of patches of each.
  """
  seen = model.tower(pixel_values.to(model.tower.patch_embed.proj.weight.dtype), grid_thw=image_grid_thw)
  return model.projector(seen if isinstance(seen, torch.Tensor) else seen.pooler_output)


def embed(model: Any, input_ids: Any, pixel_values: Any, image_grid_thw: Any) -> torch.Tensor:
  """Returns what the language model reads instead of ids, [B, T, D].

  Args:
    model: has `tower`, `projector` and a token table.
    input_ids: [B, T].
    pixel_values: the images that lie in all rows, in reading order, or None.
    image_grid_thw: of these images, or None.
  """
  token = getattr(model.config, "image_token_index", None)
  spelt = input_ids == IMAGE_SENTINEL
  embeds = model.get_input_embeddings()(input_ids.masked_fill(spelt, token or 0))
  if pixel_values is None:
    if spelt.any():
      raise ValueError("input_ids have image places, but no pixel_values were given")
    return embeds
  is_image = spelt if token is None else spelt | (input_ids == token)
  vectors = image_vectors(model, pixel_values, image_grid_thw)
  if int(is_image.sum()) != len(vectors):
    lengths = (image_grid_thw.prod(-1) // model.tower.spatial_merge_size**2).tolist()
    raise ValueError(
      f"{int(is_image.sum())} image places in input_ids, but the images have {lengths} vectors: "
      "each image takes as many places as it has vectors"
    )
  return embeds.masked_scatter(is_image[..., None], vectors.to(embeds))


class Sighted:
  """What both formats do: image vectors take their places, and the language model reads on.

  A format has `tower`, `projector` and `read`; to stand before the classes of theirs among the bases.
  """

  tower: nn.Module
  projector: nn.Module
  read: Callable[..., Any]

  def forward(
    self,
    input_ids: torch.LongTensor | None = None,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.LongTensor | None = None,
    past_key_values: Any = None,
    inputs_embeds: torch.Tensor | None = None,
    labels: torch.LongTensor | None = None,
    use_cache: bool | None = None,
    logits_to_keep: int | torch.Tensor = 0,
    pixel_values: torch.Tensor | None = None,
    image_grid_thw: torch.Tensor | None = None,
    **kwargs: Any,
  ) -> Any:
    """Returns the language model's output; labels are those of any causal model, -100 in image places."""
    if inputs_embeds is None:
      inputs_embeds = embed(self, input_ids, pixel_values, image_grid_thw)
    return self.read(
      attention_mask=attention_mask,
      position_ids=position_ids,
      past_key_values=past_key_values,
      inputs_embeds=inputs_embeds,
      labels=labels,
      use_cache=use_cache,
      logits_to_keep=logits_to_keep,
      **kwargs,
    )


class EMOVAForConditionalGeneration(Sighted, PreTrainedModel, GenerationMixin):
  """The three parts beside each other."""

  config_class = EMOVAConfig
  main_input_name = "input_ids"
  input_modalities = ["image", "text"]  # noqa: RUF012 theirs is a list
  supports_gradient_checkpointing = True
  _no_split_modules = ["Qwen2DecoderLayer", "LlamaDecoderLayer", "Qwen2VLVisionBlock"]  # noqa: RUF012 theirs is a list
  _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
  _supports_flash_attn = True
  _supports_sdpa = True

  def __init__(self, config: EMOVAConfig):
    """Makes the parts, their weights to be loaded."""
    super().__init__(config)
    self.language_model = AutoModelForCausalLM.from_config(config.text_config)
    self.vision_tower = Qwen2VisionTransformerPretrainedModel._from_config(config.vision_config)
    inputs, outputs = config.vision_config.hidden_size, config.text_config.hidden_size
    self.mm_projector = make_projector(inputs, outputs, projector_depth(config.mm_projector_config))
    self.post_init()

  @property
  def tower(self) -> nn.Module:
    """The image tower."""
    return self.vision_tower

  @property
  def projector(self) -> nn.Module:
    """From the tower's width to the language model's."""
    return self.mm_projector

  def get_input_embeddings(self) -> nn.Module:
    """Returns the token table."""
    return self.language_model.get_input_embeddings()

  def set_input_embeddings(self, value: nn.Module) -> None:
    """Puts another token table in."""
    self.language_model.set_input_embeddings(value)

  def get_output_embeddings(self) -> nn.Module:
    """Returns the head."""
    return self.language_model.get_output_embeddings()

  def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
    """Puts another head in."""
    self.language_model.set_output_embeddings(new_embeddings)

  def get_decoder(self) -> nn.Module:
    """Returns the language model without its head."""
    return self.language_model.model

  def read(self, **inputs: Any) -> Any:
    """Returns the language model's output."""
    return self.language_model(**inputs)


class InsideSighted(Sighted):
  """The origin format: tower and projector lie inside a stock language model, under the names of EMOVA's code."""

  config: Any
  model: Any

  def add_sight(self) -> None:
    """Puts tower and projector into the stock model."""
    config = self.config
    vision = tower_config(getattr(config, "mm_vision_tower", None))
    tower = Qwen2VisionTransformerPretrainedModel._from_config(vision)
    self.model.vision_tower = nn.ModuleDict({"vision_tower": tower})
    depth = projector_depth(getattr(config, "mm_projector", None))
    self.model.mm_projector = make_projector(vision.hidden_size, config.hidden_size, depth)

  @property
  def tower(self) -> nn.Module:
    """The image tower."""
    return self.model.vision_tower["vision_tower"]

  @property
  def projector(self) -> nn.Module:
    """From the tower's width to the language model's."""
    return self.model.mm_projector

  def read(self, **inputs: Any) -> Any:
    """Returns the stock class's output."""
    return super(Sighted, self).forward(**inputs)  # pyright: ignore[reportAttributeAccessIssue] it stands behind


class EmovaQwen2ForCausalLM(InsideSighted, Qwen2ForCausalLM):
  """Qwen2 with an image tower inside."""

  config_class = EmovaQwen2Config

  def __init__(self, config: EmovaQwen2Config):
    """Makes the parts, their weights to be loaded."""
    super().__init__(config)
    self.add_sight()
    self.post_init()


class EmovaLlamaForCausalLM(InsideSighted, LlamaForCausalLM):
  """Llama with an image tower inside."""

  config_class = EmovaLlamaConfig

  def __init__(self, config: EmovaLlamaConfig):
    """Makes the parts, their weights to be loaded."""
    super().__init__(config)
    self.add_sight()
    self.post_init()
