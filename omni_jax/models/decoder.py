"""The language model: a Qwen2.5 decoder (arXiv 2412.15115) whose vocabulary is text rows followed by extra rows.

Follows `transformers/models/qwen2/modeling_qwen2.py`. Deviation: token tables are two leaves, `text` and `extra`
(speech units and styles), because stages freeze and initialise them apart; conversion joins them. Id
`i >= vocab_size` is row `i - vocab_size` of the extra table.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, Logits, Mask, Positions, SegmentIds, Tokens, typed
from omni_jax.nn.attention import Attention, AttentionConfig, Memory, causal_mask
from omni_jax.nn.feed_forward import GatedFeedForward
from omni_jax.nn.norm import RMSNorm
from omni_jax.nn.parameter import table
from omni_jax.nn.rotary import Rotation, text_rotation
from omni_jax.nn.stack import fold, fold_with_cache, stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """Dimensions of a decoder.

  Attributes:
    vocab_size: rows of the text table, control tokens included.
    extra_vocab_size: rows of the extra table, 0 for a model of text alone.
    width: of the residual stream.
    depth: number of layers.
    num_heads: query heads.
    num_kv_heads: key-value heads.
    head_dim: of every head.
    mlp_dim: inner width of the gated network.
    rope_theta: base of the rotary wavelengths.
    norm_eps: added to the mean square.
    qkv_bias: whether query, key and value have offsets (Qwen2.5: yes; Llama: no).
    tied: whether logits are products with the token tables rather than with tables of their own.
    unit_levels: levels of the quantiser's digits, least significant first. If given, the first `prod(unit_levels)`
      extra rows start as sums of one smooth curve per digit, so that neighbouring codes start near each other.
    remat: recompute each layer in the backward pass.
  """

  vocab_size: int
  extra_vocab_size: int
  width: int
  depth: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  rope_theta: float
  norm_eps: float
  qkv_bias: bool
  tied: bool
  unit_levels: tuple[int, ...] = ()
  remat: bool = False

  def __post_init__(self):
    assert not self.unit_levels or math.prod(self.unit_levels) <= self.extra_vocab_size, (
      f"{self.unit_levels} codes do not fit into {self.extra_vocab_size} extra rows"
    )

  @property
  def attention(self) -> AttentionConfig:
    """The attention of every layer."""
    return AttentionConfig(
      width=self.width,
      num_heads=self.num_heads,
      num_kv_heads=self.num_kv_heads,
      head_dim=self.head_dim,
      input_bias=self.qkv_bias,
      output_bias=False,
    )

  def make(self, *, key: Key) -> "Decoder":
    """Returns a decoder with random weights."""
    return Decoder(self, key=key)


def qwen2_5(*, width: int, depth: int, num_heads: int, num_kv_heads: int, mlp_dim: int, tied: bool) -> DecoderConfig:
  """Returns a published Qwen2.5 size as it was released, without extra rows (Qwen2.5 `config.json` files)."""
  return DecoderConfig(
    vocab_size=151_936 if width < 3584 else 152_064,
    extra_vocab_size=0,
    width=width,
    depth=depth,
    num_heads=num_heads,
    num_kv_heads=num_kv_heads,
    head_dim=64 if width < 1024 else 128,
    mlp_dim=mlp_dim,
    rope_theta=1e6,
    norm_eps=1e-6,
    qkv_bias=True,
    tied=tied,
  )


QWEN2_5_0_5B = qwen2_5(width=896, depth=24, num_heads=14, num_kv_heads=2, mlp_dim=4864, tied=True)
QWEN2_5_1_5B = qwen2_5(width=1536, depth=28, num_heads=12, num_kv_heads=2, mlp_dim=8960, tied=True)
QWEN2_5_3B = qwen2_5(width=2048, depth=36, num_heads=16, num_kv_heads=2, mlp_dim=11_008, tied=True)
QWEN2_5_7B = qwen2_5(width=3584, depth=28, num_heads=28, num_kv_heads=4, mlp_dim=18_944, tied=False)
QWEN2_5_14B = qwen2_5(width=5120, depth=48, num_heads=40, num_kv_heads=8, mlp_dim=13_824, tied=False)
QWEN2_5_32B = qwen2_5(width=5120, depth=64, num_heads=40, num_kv_heads=8, mlp_dim=27_648, tied=False)
QWEN2_5_72B = qwen2_5(width=8192, depth=80, num_heads=64, num_kv_heads=8, mlp_dim=29_568, tied=False)


class KeyValueCache(NamedTuple):
  """What decoding remembers. Slots are in order of writing; only `valid` ones are seen, whatever lies between them.

  Attributes:
    keys: [L, B, K, S, H], rotated.
    values: [L, B, K, S, H].
    valid: [B, S], false for padding and for slots not yet written.
    used: number of slots written, the same for all rows.
  """

  keys: Array
  values: Array
  valid: Array
  used: Array


class TokenTables(nnx.Module):
  """One row per token: text rows, then extra rows (`extra` is None without them)."""

  def __init__(self, config: DecoderConfig, *, key: Key):
    text, extra = jax.random.split(key)
    axes = ("vocab", "embed")
    self.vocab_size = config.vocab_size
    self.text = table(text, (config.vocab_size, config.width), axes=axes)
    self.extra = _extra_table(config, key=extra) if config.extra_vocab_size else None

  @typed
  def embed(self, tokens: Tokens) -> Hidden:
    """Returns the row of each token."""
    if self.extra is None:
      return self.text[...][tokens]
    is_text = tokens < self.vocab_size
    text = self.text[...][jnp.where(is_text, tokens, 0)]
    extra = self.extra[...][jnp.where(is_text, 0, tokens - self.vocab_size)]
    return jnp.where(is_text[..., None], text, extra)

  @typed
  def logits(self, hidden: Hidden) -> Logits:
    """Returns the product with every row."""
    rows = [self.text[...]] if self.extra is None else [self.text[...], self.extra[...]]
    return hidden @ jnp.concatenate(rows).T


class DecoderBlock(nnx.Module):
  """Attention, then the gated network, each on the normalised stream and added to it."""

  def __init__(self, config: DecoderConfig, *, key: Key):
    attention, feed_forward = jax.random.split(key)
    self.attention_norm = RMSNorm(width=config.width, eps=config.norm_eps)
    self.attention = Attention(config.attention, key=attention)
    self.feed_forward_norm = RMSNorm(width=config.width, eps=config.norm_eps)
    self.feed_forward = GatedFeedForward(width=config.width, mlp_dim=config.mlp_dim, key=feed_forward)

  def __call__(self, x: Hidden, rotation: Rotation, mask: Mask) -> Hidden:
    """Returns the stream after this layer."""
    return self.step(x, None, rotation, mask, None)[0]

  def step(
    self, x: Hidden, past: tuple[Array, Array] | None, rotation: Rotation, mask: Mask, past_mask: Mask | None
  ) -> tuple[Hidden, tuple[Array, Array]]:
    """Returns the stream and the new keys and values, seeing also the `past` keys and values."""
    memory = None if past is None or past_mask is None else Memory(*past, past_mask)
    mixed, entries = self.attention.extend(self.attention_norm(x), rotation, mask, past=memory)
    x = x + mixed
    return x + self.feed_forward(self.feed_forward_norm(x)), entries


class Decoder(nnx.Module):
  """Tokens (or vectors in their place) to hidden states to logits."""

  def __init__(self, config: DecoderConfig, *, key: Key):
    embed, blocks, head = jax.random.split(key, 3)
    self.config = config
    self.embed = TokenTables(config, key=embed)
    self.blocks = stack(lambda key: DecoderBlock(config, key=key), depth=config.depth, key=blocks)
    self.norm = RMSNorm(width=config.width, eps=config.norm_eps)
    self.head = None if config.tied else TokenTables(config, key=head)

  @typed
  def __call__(self, tokens: Tokens, positions: Positions, segment_ids: SegmentIds) -> Logits:
    """Returns the logits of the token after each position; segments of a packed row do not see each other."""
    return self.logits(self.hidden(self.embed.embed(tokens), positions, segment_ids))

  @typed
  def hidden(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, branch_ids: SegmentIds | None = None
  ) -> Hidden:
    """Returns the normalised last states for embedded inputs `x`; who sees whom: `nn.attention.causal_mask`."""
    mask = causal_mask(segment_ids, branch_ids)
    return self.norm(fold(self.blocks, x, self._rotation(positions), mask, remat=self.config.remat))

  @typed
  def logits(self, hidden: Hidden) -> Logits:
    """Returns the logits of normalised states, text ids first."""
    return (self.embed if self.head is None else self.head).logits(hidden)

  def empty_cache(self, batch: int, length: int) -> KeyValueCache:
    """Returns a cache of `length` slots, prompt and answer together."""
    config = self.config
    shape = (config.depth, batch, config.num_kv_heads, length, config.head_dim)
    dtype = self.norm.scale[...].dtype
    return KeyValueCache(
      jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((batch, length), bool), jnp.zeros((), jnp.int32)
    )

  def prefill(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, cache: KeyValueCache
  ) -> tuple[Hidden, KeyValueCache]:
    """Returns the normalised states of a prompt, one segment a row padded on either side, and the first cache.

    `cache` must be empty.
    """
    x, entries = fold_with_cache(self.blocks, x, None, self._rotation(positions), causal_mask(segment_ids), None)
    return self.norm(x), _remember(cache, entries, segment_ids > 0)

  def step(self, x: Hidden, positions: Positions, cache: KeyValueCache) -> tuple[Hidden, KeyValueCache]:
    """Returns the normalised states of the next positions (usually one), and the cache that holds them too."""
    batch, length = positions.shape
    seen = jnp.broadcast_to(cache.valid[:, None], (batch, length, cache.valid.shape[1]))
    now = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), (batch, length, length))
    past = (cache.keys, cache.values)
    x, entries = fold_with_cache(self.blocks, x, past, self._rotation(positions), now, seen)
    return self.norm(x), _remember(cache, entries, jnp.ones((batch, length), bool))

  def _rotation(self, positions: Positions) -> Rotation:
    return text_rotation(positions, head_dim=self.config.head_dim, theta=self.config.rope_theta)


def _remember(cache: KeyValueCache, entries: tuple[Array, Array], valid: Array) -> KeyValueCache:
  keys, values = (
    jax.lax.dynamic_update_slice_in_dim(old, new, cache.used, axis=3)
    for old, new in zip((cache.keys, cache.values), entries, strict=True)
  )
  seen = jax.lax.dynamic_update_slice_in_dim(cache.valid, valid, cache.used, axis=1)
  return KeyValueCache(keys, values, seen, cache.used + valid.shape[1])


def _extra_table(config: DecoderConfig, *, key: Key) -> nnx.Param:
  axes = ("vocab", "embed")
  extra = table(key, (config.extra_vocab_size, config.width), axes=axes)
  if not config.unit_levels:
    return extra
  rows = _unit_rows(config.unit_levels, width=config.width, key=key)
  return nnx.Param(extra[...].at[: rows.shape[0]].set(rows), axes=axes)


def _unit_rows(levels: tuple[int, ...], *, width: int, key: Key) -> Float[Array, "codes D"]:
  """Returns one row of deviation 0.02 per code: the sum over digits of a smooth random curve through the levels."""
  rows = jnp.zeros((1, width))
  for size, part in zip(levels, jax.random.split(key, len(levels)), strict=True):
    # Cosines of falling amplitude: a random curve that is smoother than white noise and never flat.
    orders = jnp.arange(1, size)
    basis = jnp.cos(jnp.pi * orders * (jnp.arange(size)[:, None] + 0.5) / size) / orders
    curve = basis @ jax.random.normal(part, (size - 1, width))
    curve = curve / jnp.std(curve)
    rows = (rows[None] + curve[:, None]).reshape(-1, width)  # later digits are more significant
  return rows * 0.02 / len(levels) ** 0.5
