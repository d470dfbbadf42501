"""EMOVA's inputs for `transformers` (5 or newer): text with image places, and patches; no part of the JAX package.

    processor(text="<image>\\nWhat is this?", images=picture, return_tensors="pt")
        -> input_ids, attention_mask, pixel_values, image_grid_thw

A text may be a conversation instead: messages with `role` and `content`, a string or a list of {"type": "image"} and
{"type": "text", "text": ...}, written by the tokenizer's chat template up to where the answer begins.
"""

from typing import Any

import numpy as np
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

IMAGE = "<image>"
LARGEST_RATIO = 200  # of the longer to the shorter side


def target_size(height: int, width: int, *, cell: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
  """Returns the size at which an image is read: Qwen2-VL's, after an image below one cell was enlarged to one."""
  if max(height, width) > LARGEST_RATIO * min(height, width):
    raise ValueError(f"image of {height} x {width} pixels: one side may be {LARGEST_RATIO} times the other at most")
  if min(height, width) < cell:
    if height < width:
      height, width = cell, round(width / height * cell)
    else:
      height, width = round(height / width * cell), cell
  return smart_resize(height, width, factor=cell, min_pixels=min_pixels, max_pixels=max_pixels)


class EMOVAImageProcessor(Qwen2VLImageProcessorPil):
  """Qwen2-VL's image processor with EMOVA's first step."""

  def resize(self, image: np.ndarray, size: SizeDict, resample: Any, factor: int, **kwargs: Any) -> np.ndarray:
    """Returns the image [C, H, W] at the size at which it is read."""
    limits = {"min_pixels": size.shortest_edge, "max_pixels": size.longest_edge}
    height, width = target_size(*image.shape[-2:], cell=factor, **limits)
    if (height, width) == image.shape[-2:]:
      return image
    return super(Qwen2VLImageProcessorPil, self).resize(image, SizeDict(height=height, width=width), resample)


class EMOVAProcessor(ProcessorMixin):
  """Tokenizer and image processor together: each `<image>` becomes as many places as its image has vectors."""

  attributes = ["image_processor", "tokenizer"]  # noqa: RUF012 theirs is a list
  image_processor_class = "AutoImageProcessor"
  tokenizer_class = "AutoTokenizer"

  def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **kwargs: Any):
    """Keeps the parts."""
    super().__init__(image_processor, tokenizer, chat_template=chat_template)

  def __call__(self, images: Any = None, text: Any = None, return_tensors: str | None = None, **kwargs: Any) -> Any:
    """Returns what the model reads.

    Args:
      images: of all texts, in order.
      text: a string or a conversation, or a list of them.
      return_tensors: `pt` for torch, `np` for NumPy.
      **kwargs: for the tokenizer, such as `padding`.
    """
    texts = [self.written(one) for one in listed(text)]
    seen: dict[str, Any] = {}
    if images is not None:
      seen = dict(self.image_processor(images, return_tensors=return_tensors))
      texts = self.with_places(texts, np.asarray(seen["image_grid_thw"]))
    given = {"padding": len(texts) > 1, **kwargs, "add_special_tokens": False, "return_tensors": return_tensors}
    return BatchFeature({**self.tokenizer(texts, **given), **seen})

  def written(self, text: Any) -> str:
    """Returns a conversation as text; a text stays as it is."""
    if isinstance(text, str):
      return text
    return self.tokenizer.apply_chat_template(text, tokenize=False, add_generation_prompt=True)

  def with_places(self, texts: list[str], grids: np.ndarray) -> list[str]:
    """Returns the texts with the places of each image, `grids` [images, 3] being their patches."""
    places = (grids.prod(-1) // self.image_processor.merge_size**2).tolist()
    if sum(text.count(IMAGE) for text in texts) != len(places):
      raise ValueError(f"{len(places)} images, but the texts hold {sum(text.count(IMAGE) for text in texts)} {IMAGE}")
    left = iter(places)
    parts = [text.split(IMAGE) for text in texts]
    return ["".join([first, *(IMAGE * next(left) + part for part in rest)]) for first, *rest in parts]


def listed(text: Any) -> list[Any]:
  """Returns a list of texts and conversations, of one as well."""
  if isinstance(text, str) or (text and isinstance(text[0], dict)):
    return [text]
  return list(text)
