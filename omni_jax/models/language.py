"""A decoder that reads batches: text, speech units and styles, all of them tokens; EMOVA without eyes.

What a released language model becomes when it is imported, and what `models.emova` builds on. A batch is a dict of
arrays, all with the batch first:

    tokens, positions, segment_ids             [B, T]     segment 0 is padding
    branch_ids                                 [B, T]     several answers to one beginning; absent: none branches
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, Logits, Positions, Scalar, Tokens, typed
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import Decoder, DecoderConfig, KeyValueCache

Batch = Mapping[str, Array]

NO_IMAGES = -1  # as `image_token`: the vocabulary keeps no id for them


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig:
  """The decoder, and what of the vocabulary an image tower will need when one is added.

  Attributes:
    decoder: language model.
    image_token: id that is kept for image places, or NO_IMAGES.
  """

  decoder: DecoderConfig
  image_token: int

  def make(self, *, key: Key) -> "LanguageModel":
    """Returns a model with random weights."""
    return LanguageModel(self, decoder=self.decoder.make(key=key))


class LanguageModel(nnx.Module):
  """Batches to logits, whole rows for training or with a cache for decoding."""

  def __init__(self, config: LanguageConfig, *, decoder: Decoder):
    self.config = config
    self.decoder = decoder

  def __call__(self, batch: Batch) -> Logits:
    """Returns the logits of the token after each position."""
    return self.logits(self.hidden(batch))

  def hidden(self, batch: Batch) -> Hidden:
    """Returns the normalised last states; `logits` of a part of them gives that part's logits."""
    return self.hidden_and_balance(batch)[0]

  def hidden_and_balance(self, batch: Batch) -> tuple[Hidden, Scalar]:
    """Returns the normalised last states, and the decoder's balance loss (0 without experts)."""
    return self.decoder.hidden_and_balance(
      self.embed(batch), batch["positions"], batch["segment_ids"], batch.get("branch_ids")
    )

  @typed
  def logits(self, hidden: Hidden) -> Logits:
    """Returns the logits of normalised states, text ids first, then units, then styles."""
    return self.decoder.logits(hidden)

  def embed(self, batch: Batch) -> Hidden:
    """Returns the decoder's input: the row of each token.

    Raises:
      UserError: the batch has images.
    """
    images = [name for name in ("patches", "tiles") if name in batch and 0 not in batch[name].shape]
    if images:
      raise UserError(
        f"a batch with {images[0]}",
        where="language model",
        rule="this model has no image tower",
        remedy="import the base with --vision, or leave the images out",
      )
    return self.decoder.embed.embed(batch["tokens"])

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
