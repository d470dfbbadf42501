"""Grouped-query attention with rotary positions, one class for the decoder and the image tower.

Who may see whom is a boolean mask made once per batch by the caller; layers hold no cache: earlier keys and values are
handed in, new ones handed out, so that a decoding step never copies the past.

Arrays are kept with heads before positions, [B, heads, T, H]: on a CPU the whole layer is then a quarter faster.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, Mask, SegmentIds, typed
from omni_jax.nn.linear import Linear
from omni_jax.nn.rotary import Rotation, rotate

# Finite, so that a row which sees nothing averages instead of becoming NaN.
_HIDDEN_SCORE = -1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionConfig:
  """Dimensions of one attention layer.

  Attributes:
    width: of the residual stream.
    num_heads: query heads.
    num_kv_heads: key-value heads; each serves `num_heads / num_kv_heads` query heads in order.
    head_dim: of every head.
    input_bias: whether query, key and value have offsets.
    output_bias: whether the output has one.
  """

  width: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  input_bias: bool
  output_bias: bool

  def __post_init__(self):
    assert self.num_heads % self.num_kv_heads == 0, f"{self.num_heads} heads over {self.num_kv_heads} key-value heads"
    assert self.head_dim % 2 == 0, f"head_dim {self.head_dim} is odd"

  def make(self, *, key: Key) -> "Attention":
    """Returns the layer with random weights."""
    return Attention(self, key=key)


class Memory(NamedTuple):
  """Keys and values to look at, each [B, K, S, H], and which query may see which of them, [B, T, S]."""

  keys: Array
  values: Array
  mask: Array


class Attention(nnx.Module):
  """Query, key, value and output maps around `attend`."""

  def __init__(self, config: AttentionConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 4)
    inner, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    self.query = Linear(config.width, inner, axes=("embed", "heads"), bias=config.input_bias, key=keys[0])
    self.key = Linear(config.width, kv, axes=("embed", "kv_heads"), bias=config.input_bias, key=keys[1])
    self.value = Linear(config.width, kv, axes=("embed", "kv_heads"), bias=config.input_bias, key=keys[2])
    self.output = Linear(inner, config.width, axes=("heads", "embed"), bias=config.output_bias, key=keys[3])

  @typed
  def __call__(self, x: Hidden, rotation: Rotation, mask: Mask) -> Hidden:
    """Returns what is added to the residual stream.

    Args:
      x: normalised input.
      rotation: of each position.
      mask: [B, T, T], true where the row may see the column.
    """
    return self.extend(x, rotation, mask, past=None)[0]

  def extend(
    self, x: Hidden, rotation: Rotation, mask: Mask, *, past: Memory | None
  ) -> tuple[Hidden, tuple[Array, Array]]:
    """Returns the output for new positions that also see the `past`, and their own keys and values [B, K, T, H]."""
    config = self.config
    queries = rotate(_split_heads(self.query(x), config.num_heads), rotation)
    keys = rotate(_split_heads(self.key(x), config.num_kv_heads), rotation)
    values = _split_heads(self.value(x), config.num_kv_heads)
    now = Memory(keys, values, mask)
    mixed = attend(queries, now) if past is None else attend(queries, past, now)
    return self.output(mixed.swapaxes(1, 2).reshape(*x.shape[:2], -1)), (keys, values)


def attend(queries: Array, *memories: Memory) -> Array:
  """Returns for every query, [B, N, T, H], the mean of the values it may see, weighted by softmax of scaled products.

  Several memories count as one, laid end to end, without being copied together. Float32 softmax.
  """
  batch, num_heads, length, head_dim = queries.shape
  num_kv_heads = memories[0].keys.shape[1]
  # The query heads of one key-value head become rows of one matrix product, which is the fast form on every device.
  grouped = queries.reshape(batch, num_kv_heads, -1, head_dim) * head_dim**-0.5
  shape = (batch, num_kv_heads, num_heads // num_kv_heads, length, -1)
  scores = [
    jnp.where(
      memory.mask[:, None, None], jnp.einsum("bkth,bksh->bkts", grouped, memory.keys).reshape(shape), _HIDDEN_SCORE
    )
    for memory in memories
  ]
  weights = jax.nn.softmax(scores[0] if len(scores) == 1 else jnp.concatenate(scores, axis=-1), axis=-1)
  weights = weights.reshape(batch, num_kv_heads, grouped.shape[2], -1)
  mixed, start = jnp.zeros((), queries.dtype), 0
  for memory in memories:
    size = memory.keys.shape[2]
    mixed += jnp.einsum("bkts,bksh->bkth", weights[..., start : start + size], memory.values)
    start += size
  return mixed.reshape(queries.shape)


@typed
def causal_mask(segment_ids: SegmentIds, branch_ids: SegmentIds | None = None) -> Mask:
  """Returns true where a position sees itself and earlier ones of its own segment.

  With `branch_ids` only those of its own branch and of the trunk, branch 0 (`tokens.grid`).
  """
  length = segment_ids.shape[1]
  mask = same_segment(segment_ids) & jnp.tril(jnp.ones((length, length), bool))
  return mask if branch_ids is None else mask & (same_segment(branch_ids) | (branch_ids == 0)[:, None, :])


@typed
def same_segment(segment_ids: SegmentIds) -> Mask:
  """Returns true between positions of one segment; padding, segment 0, sees padding only."""
  return segment_ids[:, :, None] == segment_ids[:, None, :]


def _split_heads(x: Array, num_heads: int) -> Array:
  return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)
