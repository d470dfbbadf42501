"""Grouped-query attention with rotary positions, one class for the decoder and the image tower.

Who may see whom is told once per batch by the caller, as a boolean mask or as a `Sight`, of which a kernel makes what
it needs; `choose_kernel` is the one place that chooses. Layers hold no cache: earlier keys and values are handed in,
new ones handed out, so that a decoding step never copies the past.

Arrays are kept with heads before positions, [B, heads, T, H]: on a CPU the whole layer is then a quarter faster.
"""

import dataclasses
import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Int

from omni_jax.core.arrays import Array, Hidden, Key, Mask, Positions, SegmentIds, typed
from omni_jax.core.sharding import constrain, current_platform, require_parts
from omni_jax.nn.flash import cudnn_attention, cudnn_fits, splash_attention
from omni_jax.nn.linear import Linear
from omni_jax.nn.rotary import Rotation, rotate

# Finite, so that a row which sees nothing averages instead of becoming NaN.
_HIDDEN_SCORE = -1e30

STREAM_AXES = ("batch", "sequence", None)  # of a residual stream [B, T, D]
QUERY_AXES = ("batch", "heads", "sequence", None)
KEY_AXES = ("batch", "kv_heads", None, None)


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

  @classmethod
  def of_encoder(cls, *, width: int, num_heads: int, input_bias: bool = True) -> "AttentionConfig":
    """Returns the attention of towers and speech encoders: every head has its keys, the heads share the width."""
    return cls(
      width=width,
      num_heads=num_heads,
      num_kv_heads=num_heads,
      head_dim=width // num_heads,
      input_bias=input_bias,
      output_bias=True,
    )

  def make(self, *, key: Key) -> "Attention":
    """Returns the layer with random weights."""
    return Attention(self, key=key)


class Kernel(enum.Enum):
  """How attention is computed: by XLA with all scores, or by a kernel that never holds them (`nn.flash`)."""

  XLA = enum.auto()
  SPLASH = enum.auto()
  CUDNN = enum.auto()


def choose_kernel(
  dtype: jax.typing.DTypeLike, *, head_dim: int, length: int, branched: bool, platform: str | None = None
) -> Kernel:
  """Returns the kernel for self-attention over rows of `length`: splash on a TPU, cuDNN on a GPU, XLA elsewhere.

  Branches are no segments, so on a TPU rows with branches go through XLA; cuDNN reads the whole mask and takes them.
  cuDNN's kernel wants half precision, head widths that are multiples of 8 up to 128, and rows of even length.

  Args:
    dtype: of the queries.
    head_dim: of every head.
    length: of a row.
    branched: whether rows have branches.
    platform: `cpu`, `gpu` or `tpu`; where the traced program will run if not given.
  """
  platform = platform or current_platform()
  if platform == "tpu" and not branched:
    return Kernel.SPLASH
  if platform == "gpu" and cudnn_fits(dtype, head_dim=head_dim, length=length):
    return Kernel.CUDNN
  return Kernel.XLA


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sight:
  """Who sees whom in a batch, and the kernel that computes it.

  Attributes:
    kernel: from `choose_kernel`.
    segment_ids: [B, T]; a position sees its own segment.
    causal: whether it sees only itself and what is before it.
    window: of a causal sight, how many last positions, itself included; None for all.
    mask: [B, T, T], made once for all layers where the kernel reads it.
  """

  kernel: Kernel
  segment_ids: SegmentIds
  causal: bool
  window: int | None
  mask: Mask | None

  def attend(self, queries: Array, keys: Array, values: Array) -> Array:
    """Returns the mixed values of every query, [B, N, T, H]."""
    if self.kernel is Kernel.SPLASH:
      return splash_attention(
        queries,
        keys,
        values,
        segment_ids=self.segment_ids,
        causal=self.causal,
        window=self.window,
        interpret=current_platform() != "tpu",
      )
    assert self.mask is not None, f"{self.kernel} reads a mask"
    if self.kernel is Kernel.CUDNN:
      return cudnn_attention(queries, keys, values, mask=self.mask, causal=self.causal)
    return attend(queries, Memory(keys, values, self.mask))


def causal_sight(
  segment_ids: SegmentIds,
  positions: Positions,
  *,
  kernel: Kernel,
  branch_ids: SegmentIds | None = None,
  window: int | None = None,
) -> Sight:
  """Returns the sight of a decoder, as `causal_mask` with the last `window` positions only."""
  assert kernel is not Kernel.SPLASH or branch_ids is None, "splash attention knows segments, not branches"
  mask = None if kernel is Kernel.SPLASH else causal_mask(segment_ids, branch_ids)
  if mask is not None and window is not None:
    mask = mask & within_window(positions, positions, window=window)
  return Sight(kernel=kernel, segment_ids=segment_ids, causal=True, window=window, mask=mask)


def segment_sight(segment_ids: SegmentIds, *, kernel: Kernel) -> Sight:
  """Returns the sight of an image tower: every position sees its whole segment."""
  mask = None if kernel is Kernel.SPLASH else same_segment(segment_ids)
  return Sight(kernel=kernel, segment_ids=segment_ids, causal=False, window=None, mask=mask)


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
  def __call__(self, x: Hidden, rotation: Rotation, mask: Mask | Sight) -> Hidden:
    """Returns what is added to the residual stream.

    Args:
      x: normalised input.
      rotation: of each position.
      mask: [B, T, T], true where the row may see the column; or a sight.
    """
    return self.extend(x, rotation, mask, past=None)[0]

  def extend(
    self, x: Hidden, rotation: Rotation, mask: Mask | Sight, *, past: Memory | None
  ) -> tuple[Hidden, tuple[Array, Array]]:
    """Returns the output for new positions that also see the `past`, and their own keys and values [B, K, T, H]."""
    config = self.config
    require_parts("heads", config.num_heads, what="heads")
    require_parts("kv_heads", config.num_kv_heads, what="key-value heads")
    queries = constrain(rotate(_split_heads(self.query(x), config.num_heads), rotation), QUERY_AXES)
    # Every device has the queries of its own positions, and keys and values of all.
    keys = constrain(rotate(_split_heads(self.key(x), config.num_kv_heads), rotation), KEY_AXES)
    values = constrain(_split_heads(self.value(x), config.num_kv_heads), KEY_AXES)
    if isinstance(mask, Sight):
      assert past is None, "a sight is of whole rows; what follows a past is seen through masks"
      mixed = mask.attend(queries, keys, values)
    else:
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
      memory.mask[:, None, None],
      jnp.einsum("bkth,bksh->bkts", grouped, memory.keys, preferred_element_type=jnp.float32).reshape(shape),
      _HIDDEN_SCORE,
    )
    for memory in memories
  ]
  weights = jax.nn.softmax(scores[0] if len(scores) == 1 else jnp.concatenate(scores, axis=-1), axis=-1)
  weights = weights.reshape(batch, num_kv_heads, grouped.shape[2], -1).astype(queries.dtype)
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


@typed
def within_window(positions: Positions, past: Int[Array, "B S"], *, window: int) -> Mask:
  """Returns true where the position `past` is one of the `window` last ones of `positions`, itself included."""
  return positions[:, :, None] - past[:, None, :] < window


def _split_heads(x: Array, num_heads: int) -> Array:
  return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)
