"""Depth as one stacked block: the same module with a leading layer axis on every array, run by one `lax.scan`.

A block knows nothing of the stack: it maps `x, *context -> x`. Only this file builds or walks a stack.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from omni_jax.core.arrays import Key

Block = TypeVar("Block")


def stack(make_block: Callable[[Key], Block], *, depth: int, key: Key) -> Block:
  """Returns `depth` blocks as one block whose arrays carry a leading layer axis."""
  return jax.vmap(make_block)(jax.random.split(key, depth))


def _call(block: Any, x: Any, *context: Any) -> Any:
  return block(x, *context)


def fold(blocks: Any, x: Any, *context: Any, remat: bool = False, call: Callable[..., Any] = _call) -> Any:
  """Returns `x` after every block in turn.

  `call(block, x, *context)` is one step, by default the block's own call; `x` may be any tree that keeps its shapes.
  `remat` keeps only the products with weights for the backward pass and recomputes the rest, above all attention
  scores: far less memory, and on a CPU a tenth faster than keeping everything.
  """
  policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable

  def body(x, block):
    return call(block, x, *context), None

  return jax.lax.scan(jax.checkpoint(body, policy=policy) if remat else body, x, blocks)[0]


def fold_with_cache(blocks: Any, x: Any, cache: Any, *context: Any) -> tuple[Any, Any]:
  """Returns `x` and the new cache, whose leaves carry a leading layer axis; runs `block.step(x, cache, *context)`."""

  def body(x, layer):
    block, layer_cache = layer
    return block.step(x, layer_cache, *context)

  return jax.lax.scan(body, x, (blocks, cache))


def slice_layer(blocks: Block, index: int) -> Block:
  """Returns one block of a stack, which runs on its own."""
  return jax.tree.map(lambda leaf: leaf[index], blocks)


def layers_between(blocks: Block, start: int, stop: int) -> Block:
  """Returns the layers `start` to `stop` of a stack as a stack; the whole one is not copied."""
  if (start, stop) == (0, depth_of(blocks)):
    return blocks
  return jax.tree.map(lambda leaf: leaf[start:stop], blocks)


def depth_of(blocks: Any) -> int:
  """Returns the number of stacked layers."""
  return jax.tree.leaves(blocks)[0].shape[0]
