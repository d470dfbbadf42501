"""The transformer block of the speech encoders: every frame sees every frame of its recording, nothing is rotated.

HuBERT base normalises after each half of a block (post-norm), HuBERT large and Whisper before it (pre-norm):

    post-norm   x = norm(x + attention(x));   x = norm(x + feed_forward(x))
    pre-norm    x = x + attention(norm(x));   x = x + feed_forward(norm(x))
"""

import dataclasses

import jax
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key
from omni_jax.core.errors import UserError
from omni_jax.nn.attention import Attention, AttentionConfig, Memory, attend
from omni_jax.nn.feed_forward import FeedForward, gelu
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.stack import Remat, policy_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
  """Dimensions of a stack of blocks.

  Attributes:
    width: of the residual stream.
    depth: number of blocks.
    num_heads: attention heads; they divide the width.
    mlp_dim: inner width of the feed-forward network.
    norm_eps: added to the variance.
    norm_first: whether norms come before each half (pre-norm) or after it.
    key_bias: whether keys have an offset, as queries and values always do.
    remat: what of each block is recomputed in the backward pass (`nn.stack.POLICIES`).
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  norm_eps: float
  norm_first: bool
  key_bias: bool = True
  remat: Remat = False

  def __post_init__(self):
    policy_of(self.remat)
    if self.depth < 1 or self.width % self.num_heads or self.width // self.num_heads % 2:
      raise UserError(
        f"width {self.width}, depth {self.depth}, num_heads {self.num_heads}",
        where="config of a speech encoder",
        rule="at least one block, and the heads share the width in equal, even parts",
        remedy="change the one that does not fit",
      )

  @property
  def attention(self) -> AttentionConfig:
    """The attention of every block."""
    return AttentionConfig.of_encoder(width=self.width, num_heads=self.num_heads)


class FrameAttention(Attention):
  """Attention without positions of its own."""

  def __init__(self, config: EncoderConfig, *, key: Key):
    super().__init__(config.attention, key=key)
    if not config.key_bias:
      axes = ("embed", "kv_heads")
      self.key = Linear(config.width, config.width, axes=axes, bias=False, key=jax.random.fold_in(key, 1))

  def __call__(self, x: Hidden, mask: Array) -> Hidden:
    """Returns what is added to the residual stream; `mask` [B, 1, T] is true at the frames that are seen."""
    num_heads = self.config.num_heads
    queries, keys, values = (
      layer(x).reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2) for layer in (self.query, self.key, self.value)
    )
    mixed = attend(queries, Memory(keys, values, mask))
    return self.output(mixed.swapaxes(1, 2).reshape(x.shape))


class EncoderBlock(nnx.Module):
  """Attention, then a feed-forward network."""

  def __init__(self, config: EncoderConfig, *, key: Key):
    attention, feed_forward = jax.random.split(key)
    self.norm_first = config.norm_first
    self.attention_norm = LayerNorm(width=config.width, eps=config.norm_eps)
    self.attention = FrameAttention(config, key=attention)
    self.feed_forward_norm = LayerNorm(width=config.width, eps=config.norm_eps)
    self.feed_forward = FeedForward(
      width=config.width, mlp_dim=config.mlp_dim, outputs=config.width, activation=gelu, key=feed_forward
    )

  def __call__(self, x: Hidden, mask: Array) -> Hidden:
    """Returns the stream after this block; `mask` [B, 1, T] is true at the frames that are seen."""
    if self.norm_first:
      x = x + self.attention(self.attention_norm(x), mask)
      return x + self.feed_forward(self.feed_forward_norm(x))
    x = self.attention_norm(x + self.attention(x, mask))
    return self.feed_forward_norm(x + self.feed_forward(x))
