"""The language model: one decoder for Qwen2 and Qwen2.5, Llama and DeepSeekMoE, told apart by their configs.

Follows `modeling_qwen2.py`, `modeling_llama.py` and the text part of `modeling_deepseek_ocr2.py` in transformers
(DeepSeekMoE without latent attention). Deviation: token tables are two leaves, `text` and `extra` (speech units and
styles), because stages freeze and initialise them apart; conversion joins them. Id `i >= vocab_size` is row
`i - vocab_size` of the extra table.

Depth is a scan over one stacked block. Layers of another kind are stacks or parts of a stack of their own, run one
after another:

    DeepSeekMoE        dense_blocks [0, dense_depth), then blocks, with experts
    sliding window     blocks [0, full_depth) see everything, the others the window
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, Logits, Mask, Positions, Scalar, SegmentIds, Tokens, typed
from omni_jax.core.config import added
from omni_jax.core.sharding import constrain, require_parts
from omni_jax.models.moe import Experts, ExpertsConfig
from omni_jax.nn.attention import (
  STREAM_AXES,
  Attention,
  AttentionConfig,
  Memory,
  Sight,
  causal_sight,
  choose_kernel,
  within_window,
)
from omni_jax.nn.feed_forward import GatedFeedForward
from omni_jax.nn.norm import RMSNorm
from omni_jax.nn.parameter import table
from omni_jax.nn.rotary import Llama3Scaling, Rotation, text_rotation
from omni_jax.nn.stack import Remat, fold, fold_with_cache, layers_between, policy_of, stack, unstack


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
    remat: what of each layer is recomputed in the backward pass (`nn.stack.POLICIES`).
    rope_scaling: change of the rotary angles for a longer context.
    experts: in place of the gated network; None for a dense model.
    dense_depth: first layers that keep the gated network though there are experts.
    window: positions that a position of a windowed layer sees, itself included; None: all layers see everything.
    full_depth: first layers that see everything though there is a window (Qwen2's `max_window_layers`).
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
  remat: Remat = False
  rope_scaling: Llama3Scaling | None = added(None)
  experts: ExpertsConfig | None = added(None)
  dense_depth: int = added(0)
  window: int | None = added(None)
  full_depth: int = added(0)

  def __post_init__(self):
    policy_of(self.remat)
    assert 0 <= self.dense_depth < self.depth, f"{self.dense_depth} dense layers of {self.depth}"
    assert self.experts is not None or not self.dense_depth, "without experts every layer is dense: dense_depth is 0"
    assert self.window is None or self.window >= 1, f"window {self.window} hides a position from itself"
    assert 0 <= self.full_depth <= self.depth, f"{self.full_depth} full layers of {self.depth}"
    assert self.window is not None or not self.full_depth, "without a window every layer is full: full_depth is 0"
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
  """Attention, then the gated network or the experts, each on the normalised stream and added to it."""

  def __init__(self, config: DecoderConfig, *, experts: ExpertsConfig | None, key: Key):
    attention, feed_forward = jax.random.split(key)
    self.attention_norm = RMSNorm(width=config.width, eps=config.norm_eps)
    self.attention = Attention(config.attention, key=attention)
    self.feed_forward_norm = RMSNorm(width=config.width, eps=config.norm_eps)
    self.feed_forward = (
      GatedFeedForward(width=config.width, mlp_dim=config.mlp_dim, key=feed_forward)
      if experts is None
      else Experts(experts, width=config.width, key=feed_forward)
    )

  def __call__(self, x: Hidden, rotation: Rotation, mask: Mask | Sight) -> Hidden:
    """Returns the stream after this layer, every position being real."""
    return self.add_balance((x, jnp.zeros(())), rotation, mask, jnp.ones(x.shape[:2], bool))[0]

  def add_balance(
    self, state: tuple[Hidden, Scalar], rotation: Rotation, mask: Mask | Sight, is_real: Array
  ) -> tuple[Hidden, Scalar]:
    """Returns the stream after this layer, and the sum of balance losses with that of this layer added."""
    x, total = state
    x = constrain(x + self.attention(self.attention_norm(x), rotation, mask), STREAM_AXES)
    mixed, balance = self._mix(x, is_real)
    return constrain(x + mixed, STREAM_AXES), total + balance

  def step(
    self,
    x: Hidden,
    past: tuple[Array, Array] | None,
    rotation: Rotation,
    mask: Mask | Sight,
    past_mask: Mask | None,
    is_real: Array,
  ) -> tuple[Hidden, tuple[Array, Array]]:
    """Returns the stream and the new keys and values, seeing also the `past` keys and values."""
    memory = None if past is None or past_mask is None else Memory(*past, past_mask)
    mixed, entries = self.attention.extend(self.attention_norm(x), rotation, mask, past=memory)
    x = x + mixed
    return x + self._mix(x, is_real)[0], entries

  def _mix(self, x: Hidden, is_real: Array) -> tuple[Hidden, Scalar]:
    x = self.feed_forward_norm(x)
    if isinstance(self.feed_forward, Experts):
      return self.feed_forward(x, is_real)
    return self.feed_forward(x), jnp.zeros(())


class _Section(NamedTuple):
  """Layers of one kind that run in one scan: `blocks`, layers `start` to `stop` of the decoder."""

  blocks: DecoderBlock
  start: int
  stop: int
  window: int | None


class Decoder(nnx.Module):
  """Tokens (or vectors in their place) to hidden states to logits."""

  def __init__(self, config: DecoderConfig, *, key: Key):
    embed, blocks, head = jax.random.split(key, 3)
    self.config = config
    self.embed = TokenTables(config, key=embed)
    first = config.dense_depth
    self.dense_blocks = (
      stack(lambda key: DecoderBlock(config, experts=None, key=key), depth=first, key=jax.random.fold_in(blocks, 1))
      if first
      else None
    )
    self.blocks = stack(
      lambda key: DecoderBlock(config, experts=config.experts, key=key), depth=config.depth - first, key=blocks
    )
    self.norm = RMSNorm(width=config.width, eps=config.norm_eps)
    self.head = None if config.tied else TokenTables(config, key=head)

  @typed
  def __call__(self, tokens: Tokens, positions: Positions, segment_ids: SegmentIds) -> Logits:
    """Returns the logits of the token after each position; segments of a packed row do not see each other."""
    return self.logits(self.hidden(self.embed.embed(tokens), positions, segment_ids))

  def hidden(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, branch_ids: SegmentIds | None = None
  ) -> Hidden:
    """Returns the normalised last states for embedded inputs `x`; who sees whom: `nn.attention.causal_mask`."""
    return self.hidden_and_balance(x, positions, segment_ids, branch_ids)[0]

  @typed
  def hidden_and_balance(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, branch_ids: SegmentIds | None = None
  ) -> tuple[Hidden, Scalar]:
    """Returns the normalised last states, and the balance losses of all layers of experts (0 without)."""
    states, balance = self.states(x, positions, segment_ids, branch_ids)
    return self.norm(states), balance

  def states(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, branch_ids: SegmentIds | None = None
  ) -> tuple[Hidden, Scalar]:
    """Returns the last states before the norm, which other blocks may go on from, and the balance losses."""
    require_parts("sequence", x.shape[1], what="positions")
    rotation, state = self._rotation(positions), (constrain(x, STREAM_AXES), jnp.zeros(()))
    sights = self._sights(x, positions, segment_ids, branch_ids)
    for section in self._sections():
      context = (rotation, sights[section.window], segment_ids > 0)
      state = fold(section.blocks, state, *context, remat=self.config.remat, call=DecoderBlock.add_balance)
    return state

  @typed
  def logits(self, hidden: Hidden) -> Logits:
    """Returns the logits of normalised states, text ids first."""
    return (self.embed if self.head is None else self.head).logits(hidden)

  def unrolled(self) -> "Decoder":
    """Returns the same decoder, its stacks taken apart for decoding (`nn.stack`); it prefills and steps."""
    twin = jax.tree.map(lambda leaf: leaf, self)
    twin.blocks = nnx.List(unstack(self.blocks))
    twin.dense_blocks = None if self.dense_blocks is None else nnx.List(unstack(self.dense_blocks))
    return twin

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
    """Returns the normalised states of a prompt, a segment a row padded on either side, and an empty cache filled."""
    states, cache = self.prefill_states(x, positions, segment_ids, cache)
    return self.norm(states), cache

  def prefill_states(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, cache: KeyValueCache
  ) -> tuple[Hidden, KeyValueCache]:
    """Returns what `prefill` does, before the norm."""
    rotation, entries = self._rotation(positions), []
    sights = self._sights(x, positions, segment_ids, None)
    for section in self._sections():
      x, new = fold_with_cache(section.blocks, x, None, rotation, sights[section.window], None, segment_ids > 0)
      entries.append(new)
    return x, _remember(cache, entries, segment_ids > 0)

  def step(self, x: Hidden, positions: Positions, cache: KeyValueCache) -> tuple[Hidden, KeyValueCache]:
    """Returns the normalised states of the next positions (usually one), and the cache that holds them too."""
    states, cache = self.step_states(x, positions, cache)
    return self.norm(states), cache

  def step_states(self, x: Hidden, positions: Positions, cache: KeyValueCache) -> tuple[Hidden, KeyValueCache]:
    """Returns what `step` does, before the norm."""
    batch, length = positions.shape
    valid = jnp.broadcast_to(cache.valid[:, None], (batch, length, cache.valid.shape[1]))
    causal = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), (batch, length, length))
    rotation, entries = self._rotation(positions), []
    for section in self._sections():
      now, seen = causal, valid
      if section.window is not None:
        # A row is one prompt without gaps, so the position of a slot is the number of valid ones before it.
        slots = jnp.cumsum(cache.valid, axis=1) - 1
        now = now & within_window(positions, positions, window=section.window)
        seen = seen & within_window(positions, slots, window=section.window)
      past = (cache.keys, cache.values)
      if section.stop - section.start < self.config.depth:
        past = (past[0][section.start : section.stop], past[1][section.start : section.stop])
      is_real = jnp.ones((batch, length), bool)
      x, new = fold_with_cache(section.blocks, x, past, rotation, now, seen, is_real)
      entries.append(new)
    return x, _remember(cache, entries, jnp.ones((batch, length), bool))

  def _rotation(self, positions: Positions) -> Rotation:
    config = self.config
    return text_rotation(positions, head_dim=config.head_dim, theta=config.rope_theta, scaling=config.rope_scaling)

  def _sections(self) -> list[_Section]:
    config, sections = self.config, []
    windowed_from = config.depth if config.window is None else config.full_depth
    borders = sorted({0, config.dense_depth, min(windowed_from, config.depth), config.depth})
    for start, stop in itertools.pairwise(borders):
      first = config.dense_depth if start >= config.dense_depth else 0
      blocks = self.blocks if start >= config.dense_depth else self.dense_blocks
      assert blocks is not None, "a section lies in one of the stacks"
      window = config.window if start >= windowed_from else None
      sections.append(_Section(layers_between(blocks, start - first, stop - first), start, stop, window))
    return sections

  def _sights(
    self, x: Hidden, positions: Positions, segment_ids: SegmentIds, branch_ids: SegmentIds | None
  ) -> dict[int | None, Sight]:
    """Returns the sight of every kind of layer, by its window."""
    kernel = choose_kernel(x.dtype, head_dim=self.config.head_dim, length=x.shape[1], branched=branch_ids is not None)
    return {
      window: causal_sight(segment_ids, positions, kernel=kernel, branch_ids=branch_ids, window=window)
      for window in dict.fromkeys(section.window for section in self._sections())
    }


def _remember(cache: KeyValueCache, entries: Sequence[tuple[Array, Array]], valid: Array) -> KeyValueCache:
  """Returns the cache with the keys and values of all sections behind what it has."""
  keys, values = (
    jax.lax.dynamic_update_slice_in_dim(old, jnp.concatenate(new), cache.used, axis=3)
    for old, new in zip((cache.keys, cache.values), zip(*entries, strict=True), strict=True)
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
