"""Attention without its scores in memory: splash attention on a TPU, cuDNN's flash attention on a GPU.

Both take queries [B, N, T, H] and keys and values [B, K, S, H] and give what `nn.attention.attend` gives.

Packed rows. Splash attention reads segment ids and a causal or sliding pattern, and skips the blocks that they hide.
cuDNN's public call (`jax.nn.dot_product_attention`) has no segment ids: it gets the whole mask [B, 1, T, S], which it
adds to the scores, beside the causal flag, which lets it skip the blocks above the diagonal. So a packed row costs one
mask of 2 T S bytes and half of the products on a GPU.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import PartitionSpec

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

  `interpret` runs the kernel's program on a CPU, for tests. Under a mesh, rows and heads are split as everywhere.
  """
  filled = -queries.shape[2] % _LANES  # added positions are of segment 0, which is padding

  def widen(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (0, 0), (0, filled), (0, 0)))

  run = functools.partial(_splash, causal=causal, window=window, interpret=interpret)
  inputs = (
    widen(queries * queries.shape[-1] ** -0.5),
    widen(keys),
    widen(values),
    jnp.pad(segment_ids, ((0, 0), (0, filled))),
  )
  mesh = sharding.current_mesh()
  if mesh is not None:
    # A query head lives where its key-value head does.
    heads = sharding.spec(("batch", "kv_heads", None, None), keys.shape, mesh)
    rows = PartitionSpec(heads[0])
    run = jax.shard_map(run, mesh=mesh, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False)
  return run(*inputs)[:, :, : queries.shape[2]]


def _splash(
  queries: Array,
  keys: Array,
  values: Array,
  segment_ids: SegmentIds,
  *,
  causal: bool,
  window: int | None,
  interpret: bool,
) -> Array:
  length = queries.shape[2]
  shape = (length, length)
  if not causal:
    mask = splash.FullMask(shape)
  elif window is None:
    mask = splash.CausalMask(shape)
  else:
    mask = splash.LocalMask(shape, (window - 1, 0), 0)
  block = next(size for size in _BLOCKS if length % size == 0)
  kernel = splash.make_splash_mha_single_device(
    splash.MultiHeadMask([mask] * queries.shape[1]),
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
  run: Any = jax.vmap(kernel)
  return run(queries, keys, values, splash.SegmentIds(q=segment_ids, kv=segment_ids))


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
