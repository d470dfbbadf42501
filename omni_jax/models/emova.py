"""EMOVA (arXiv 2409.18042): image tower, projector and a decoder that reads and writes text, speech units and styles.

Speech has no encoder here: it is tokens of the decoder's vocabulary. Image places have ordinary positions (no M-RoPE).

A batch is a dict of arrays, all with the batch first:

    tokens, positions, segment_ids             [B, T]     segment 0 is padding
    branch_ids                                 [B, T]     several answers to one beginning; absent: none branches
    patches, patch_positions,                  [B, W, P, C], [B, W, P, 2]
    patch_segment_ids                          [B, W, P]  0 is padding; absent or P = 0: no images

A row's patches lie in W windows, each image whole in one, since patches of different windows do not see each other:
one window of many images, or small windows that keep attention cheap where no kernel skips what is masked.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, Logits, Positions, Tokens, typed
from omni_jax.models.decoder import QWEN2_5_3B, QWEN2_5_7B, QWEN2_5_72B, DecoderConfig, KeyValueCache
from omni_jax.models.fusion import fill_image_places
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION, VisionConfig

Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmovaConfig:
  """The three parts and the token whose places images take.

  Attributes:
    decoder: language model.
    vision: image tower.
    projector: between them.
    image_token: id whose places are taken.
  """

  decoder: DecoderConfig
  vision: VisionConfig
  projector: ProjectorConfig
  image_token: int

  def __post_init__(self):
    widths = (self.vision.out_width, self.decoder.width)
    assert (self.projector.inputs, self.projector.outputs) == widths, (
      f"projector {self.projector} does not join {widths}"
    )

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


class Emova(nnx.Module):
  """Batches to logits, whole rows for training or with a cache for decoding."""

  def __init__(self, config: EmovaConfig, *, key: Key):
    decoder, vision, projector = jax.random.split(key, 3)
    self.config = config
    self.decoder = config.decoder.make(key=decoder)
    self.vision = config.vision.make(key=vision)
    self.projector = config.projector.make(key=projector)

  def __call__(self, batch: Batch) -> Logits:
    """Returns the logits of the token after each position."""
    return self.logits(self.hidden(batch))

  def hidden(self, batch: Batch) -> Hidden:
    """Returns the normalised last states; `logits` of a part of them gives that part's logits."""
    return self.decoder.hidden(self.embed(batch), batch["positions"], batch["segment_ids"], batch.get("branch_ids"))

  @typed
  def logits(self, hidden: Hidden) -> Logits:
    """Returns the logits of normalised states, text ids first, then units, then styles."""
    return self.decoder.logits(hidden)

  def embed(self, batch: Batch) -> Hidden:
    """Returns the decoder's input: token rows, with image vectors in the image places."""
    x = self.decoder.embed.embed(batch["tokens"])
    patches = batch.get("patches")
    if patches is None or 0 in patches.shape:
      return x
    segment_ids = batch["patch_segment_ids"]
    windows = (patches, batch["patch_positions"], segment_ids)
    features = self.projector(self.vision(*(array.reshape(-1, *array.shape[2:]) for array in windows)))
    is_real = segment_ids.reshape(x.shape[0], -1)[:, :: self.config.vision.merge**2] > 0
    is_image = batch["tokens"] == self.config.image_token
    return fill_image_places(x, features.reshape(*is_real.shape, -1), is_image=is_image, is_real=is_real)

  def empty_cache(self, batch: int, length: int) -> KeyValueCache:
    """Returns a cache of `length` slots, prompt and answer together."""
    return self.decoder.empty_cache(batch, length)

  def prefill(self, batch: Batch, cache: KeyValueCache) -> tuple[Logits, KeyValueCache]:
    """Returns the logits of the first answer token, [B, 1, V], and the filled cache.

    Each row is one prompt, segment id 1, padded left or right with segment 0; `cache` is empty. The next position of
    a row is the number of its real tokens.
    """
    segment_ids = batch["segment_ids"]
    hidden, cache = self.decoder.prefill(self.embed(batch), batch["positions"], segment_ids, cache)
    last = jnp.max(jnp.where(segment_ids > 0, jnp.arange(segment_ids.shape[1]), 0), axis=1)
    return self.logits(jnp.take_along_axis(hidden, last[:, None, None], axis=1)), cache

  @typed
  def step(self, tokens: Tokens, positions: Positions, cache: KeyValueCache) -> tuple[Logits, KeyValueCache]:
    """Returns the logits after the given next tokens, usually one a row, and the longer cache.

    A row that has finished may go on with any token: rows do not see each other.
    """
    hidden, cache = self.decoder.step(self.decoder.embed.embed(tokens), positions, cache)
    return self.logits(hidden), cache
