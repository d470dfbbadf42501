"""Attention without its scores in memory: splash attention on a TPU, cuDNN's flash attention on a GPU.

Both take queries [B, N, T, H] and keys and values [B, K, S, H] and give what `nn.attention.attend` gives.

Packed rows. Splash attention reads segment ids and a causal or sliding pattern, and skips the blocks that they hide.
cuDNN's public call (`jax.nn.dot_product_attention`) has no segment ids: it gets the whole mask [B, 1, T, S], which it
adds to the scores, beside the causal flag, which lets it skip the blocks above the diagonal. So a packed row costs one
mask of 2 T S bytes and half of the products on a GPU.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import NamedSharding, PartitionSpec

from omni_jax.core import sharding
from omni_jax.core.arrays import Array, Mask, SegmentIds

_LANES = 128  # the kernel's blocks are multiples of this
_BLOCKS = (512, 256, 128)  # positions per block, the largest that divides the row
_WIDEST_HEAD = 128  # of cuDNN's kernel on every GPU since Ampere


def splash_attention(
  queries: Array,
  keys: Array,
  values: Array,
  *,
  segment_ids: SegmentIds,
  causal: bool,
  window: int | None,
  interpret: bool = False,
) -> Array:
  """Returns attention within segments; if causal, over the `window` last positions if given.

  `interpret` runs the kernel's program on a CPU, for tests. Under a mesh, rows, heads and positions are split as
  everywhere: each device has the queries of its own positions, and keys and values of all.
  """
  mesh = sharding.current_mesh()
  parts = sharding.parts_of("sequence", mesh)
  filled = -queries.shape[2] % (_LANES * parts)  # added positions are of segment 0, which is padding

  def widen(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (0, 0), (0, filled), (0, 0)))

  queries, keys, values = widen(queries * queries.shape[-1] ** -0.5), widen(keys), widen(values)
  ids = jnp.pad(segment_ids, ((0, 0), (0, filled)))
  if mesh is None:
    kernel = _kernel(queries.shape[1:3], parts=1, causal=causal, window=window, interpret=interpret)
    return _splash(kernel, queries, keys, values, ids, ids)[:, :, : queries.shape[2] - filled]
  # A query head lives where its key-value head does.
  split = sharding.spec(("batch", "kv_heads", "sequence", None), keys.shape, mesh)
  rows, heads, positions, _ = split
  whole = PartitionSpec(rows, heads)
  num_heads = NamedSharding(mesh, whole).shard_shape(queries.shape)[1]
  kernel = _kernel((num_heads, queries.shape[2]), parts=parts, causal=causal, window=window, interpret=interpret)
  # The kernel's table of blocks to visit is cut like the queries, where there is one.
  blocks = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, positions if causal else None)))
  specs = (blocks, split, whole, whole, PartitionSpec(rows, positions), PartitionSpec(rows))
  run = jax.shard_map(_splash, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
  return run(kernel, queries, keys, values, ids, ids)[:, :, : queries.shape[2] - filled]


def _kernel(shape: tuple[int, ...], *, parts: int, causal: bool, window: int | None, interpret: bool) -> Any:
  """Returns the kernel for the heads of one device and the length of a row, with the blocks to visit of every part."""
  num_heads, length = shape
  if not causal:  # every part visits every block: one kernel for the queries of a part
    mask, cut = splash.FullMask((length // parts, length)), 1
  elif window is None:
    mask, cut = splash.CausalMask((length, length)), parts
  else:
    mask, cut = splash.LocalMask((length, length), (window - 1, 0), 0), parts
  block = next(size for size in _BLOCKS if length // parts % size == 0)
  return splash.make_splash_mha(
    splash.MultiHeadMask([mask] * num_heads),
    is_mqa=False,
    head_shards=1,
    q_seq_shards=cut,
    block_sizes=splash.BlockSizes(
      block_q=block,
      block_kv=block,
      block_kv_compute=block,
      block_q_dkv=block,
      block_kv_dkv=block,
      block_kv_dkv_compute=block,
      block_q_dq=block,
      block_kv_dq=block,
    ),
    interpret=interpret,
  )


def _splash(kernel: Any, queries: Array, keys: Array, values: Array, query_ids: Array, key_ids: Array) -> Array:
  return jax.vmap(kernel)(queries, keys, values, splash.SegmentIds(q=query_ids, kv=key_ids))


def cudnn_fits(dtype: jax.typing.DTypeLike, *, head_dim: int, length: int) -> bool:
  """Whether cuDNN's kernel takes heads of this dtype and width and rows of this length."""
  is_half = np.dtype(dtype) in (np.dtype(jnp.bfloat16), np.dtype(jnp.float16))
  return is_half and head_dim % 8 == 0 and head_dim <= _WIDEST_HEAD and length % 2 == 0


def cudnn_attention(
  queries: Array,
  keys: Array,
  values: Array,
  *,
  mask: Mask,
  causal: bool,
  implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Array:
  """Returns attention where `mask` allows it; `causal` says that it allows nothing above the diagonal.

  `implementation="xla"` runs the same call without the kernel, on any device, for tests.
  """
  queries, keys, values = (x.swapaxes(1, 2) for x in (queries, keys, values))
  mixed = jax.nn.dot_product_attention(
    queries, keys, values, mask=mask[:, None], is_causal=causal, implementation=implementation
  )
  return mixed.swapaxes(1, 2)
