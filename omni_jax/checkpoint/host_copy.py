"""A copy of a state in the host's memory, made while the loop stands still and written while it goes on.

The memory is kept from save to save. Fresh memory has to be mapped by the kernel page by page, which takes 25 times as
long as the copy itself; and what is written must not lie where the next step, to which the state is donated, writes.
"""

from typing import Any

import jax
import numpy as np

_ALIGNED = 64  # bytes: what JAX takes over on a CPU without copying it once more


class HostCopy:
  """Memory for one copy of the arrays that lie on CPU devices, which is as large as they are."""

  def __init__(self):
    self._kept: dict[Any, np.ndarray] = {}

  def take(self, tree: Any) -> tuple[Any, bool]:
    """Returns (the tree with its arrays copied, whether all of them were).

    Arrays on accelerators stay as they are. What an earlier call returned holds what this one copies, from now on.
    """
    leaves, structure = jax.tree.flatten(tree)
    copied = [self._take(number, leaf) for number, leaf in enumerate(leaves)]
    is_whole = all(new is not old for new, old in zip(copied, leaves, strict=True))
    return jax.tree.unflatten(structure, copied), is_whole

  def places(self, tree: Any) -> list[np.ndarray]:
    """Returns the memory that `take` will need for this tree, which need not be ready: not mapped until written to.

    It is looked up here, not in a thread that maps it: by then a step may have consumed the tree.
    """
    return [
      self._place((number, _place_of(part.index)), part.data)
      for number, leaf in enumerate(jax.tree.leaves(tree))
      if is_on_host(leaf)
      for part in leaf.addressable_shards
    ]

  def _take(self, number: int, leaf: Any) -> Any:
    if not is_on_host(leaf):
      return leaf
    # Devices that hold the same part share its copy.
    parts = {_place_of(part.index): part.data for part in leaf.addressable_shards}
    held = {place: self._place((number, place), data) for place, data in parts.items()}
    for place, data in parts.items():
      np.copyto(held[place], np.asarray(data))
    own = [jax.device_put(held[_place_of(part.index)], part.device, may_alias=True) for part in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, own)

  def _place(self, key: Any, data: jax.Array) -> np.ndarray:
    found = self._kept.get(key)
    if found is None or found.shape != data.shape or found.dtype != data.dtype:
      found = self._kept[key] = _aligned(data.shape, np.dtype(data.dtype))
    return found


def is_on_host(leaf: Any) -> bool:
  """Whether an array lies in the memory of CPU devices."""
  return isinstance(leaf, jax.Array) and all(device.platform == "cpu" for device in leaf.sharding.device_set)


def _place_of(index: tuple[slice, ...]) -> tuple[Any, ...]:
  return tuple((part.start, part.stop) for part in index)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  size = int(np.prod(shape)) * dtype.itemsize
  memory = np.empty(size + _ALIGNED, np.uint8)
  first = -memory.ctypes.data % _ALIGNED
  return memory[first : first + size].view(dtype).reshape(shape)
