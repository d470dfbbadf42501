"""Depth as one stacked block: the same module with a leading layer axis on every array, run by one `lax.scan`.

A block knows nothing of the stack: it maps `x, *context -> x`. Only this file builds or walks a stack.

To decode, a stack may be taken apart (`unstack`): a scan copies every layer out of the stack before it multiplies with
it, which is nothing beside the products of many positions and most of the work for one.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Key
from omni_jax.core.errors import UserError

Block = TypeVar("Block")

# What is kept of each layer for the backward pass; the rest is computed again.
#   none     everything
#   dots     the products with weights; far less memory without attention's scores, and on a CPU a tenth faster
#   offload  the same, in the host's memory
#   full     nothing but the input of each layer
POLICIES = ("none", "dots", "offload", "full")
Remat = bool | str  # true is dots, false is none


def stack(make_block: Callable[[Key], Block], *, depth: int, key: Key) -> Block:
  """Returns `depth` blocks as one block whose arrays carry a leading layer axis."""
  return jax.vmap(make_block)(jax.random.split(key, depth))


def _call(block: Any, x: Any, *context: Any) -> Any:
  return block(x, *context)


def fold(blocks: Any, x: Any, *context: Any, remat: Remat = False, call: Callable[..., Any] = _call) -> Any:
  """Returns `x` after every block in turn.

  `call(block, x, *context)` is one step, by default the block's own call; `x` may be any tree that keeps its shapes.
  """

  def body(x, block):
    return call(block, x, *context), None

  return jax.lax.scan(_recomputed(body, policy_of(remat)), x, blocks)[0]


def policy_of(remat: Remat) -> str:
  """Returns the name of a policy: one of POLICIES.

  Raises:
    UserError: another name.
  """
  name = remat if isinstance(remat, str) else "dots" if remat else "none"
  if name not in POLICIES:
    raise UserError(
      f"unknown remat {remat!r}",
      where="remat",
      rule=f"one of {', '.join(POLICIES)}; true is dots, false is none",
      remedy="choose one of these",
    )
  return name


def _recomputed(body: Callable, policy: str) -> Callable:
  """Returns the body of a scan as the policy wants it."""
  policies = jax.checkpoint_policies
  if policy == "none":
    return body
  if policy == "dots":
    return jax.checkpoint(body, policy=policies.dots_with_no_batch_dims_saveable)
  # A scan already keeps the compiler from joining the two passes, so the barriers of `prevent_cse` would only be in the
  # way; `dots` keeps them, for the bits of what was trained with it.
  if policy == "offload":
    host = policies.offload_dot_with_no_batch_dims("device", "pinned_host")
    return jax.checkpoint(body, policy=host, prevent_cse=False)
  return jax.checkpoint(body, policy=policies.nothing_saveable, prevent_cse=False)


def fold_with_cache(blocks: Any, x: Any, cache: Any, *context: Any) -> tuple[Any, Any]:
  """Returns `x` and the new cache, whose leaves carry a leading layer axis; runs `block.step(x, cache, *context)`.

  The blocks are a stack, or its layers.
  """
  if isinstance(blocks, Sequence):
    entries = []
    for index, block in enumerate(blocks):
      x, new = block.step(x, slice_layer(cache, index), *context)
      entries.append(new)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *entries)

  def body(x, layer):
    block, layer_cache = layer
    return block.step(x, layer_cache, *context)

  return jax.lax.scan(body, x, (blocks, cache))


def unstack(blocks: Block) -> list[Block]:
  """Returns the layers of a stack, which are copies."""
  return [_copy_layer(blocks, index) for index in range(depth_of(blocks))]


@jax.jit
def _copy_layer(blocks: Block, index: Any) -> Block:  # compiled once for all layers, since the index is no constant
  return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), blocks)


def slice_layer(blocks: Block, index: int) -> Block:
  """Returns one block of a stack, which runs on its own."""
  return jax.tree.map(lambda leaf: leaf[index], blocks)


def layers_between(blocks: Block, start: int, stop: int) -> Block:
  """Returns the layers `start` to `stop` of a stack as a stack; the whole one is not copied."""
  if isinstance(blocks, Sequence):
    return list(blocks)[start:stop]  # pyright: ignore[reportReturnType]  (the layers of a stack that was taken apart)
  if (start, stop) == (0, depth_of(blocks)):
    return blocks
  return jax.tree.map(lambda leaf: leaf[start:stop], blocks)


def depth_of(blocks: Any) -> int:
  """Returns the number of stacked layers."""
  return jax.tree.leaves(blocks)[0].shape[0]
