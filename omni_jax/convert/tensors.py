"""Tensors by name, wherever they lie: what a conversion reads, and what it may ask of them before it reads any."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

_EXPONENTS = {2: {"bfloat16": 0x7F80, "float16": 0x7C00}, 4: {"float32": 0x7F800000}}


class Tensors(Mapping[str, np.ndarray]):
  """A mapping that also tells shapes and dtypes, from headers where it has them.

  Attributes:
    origin: where the tensors are from, for messages.
  """

  origin: Path | str = "conversion of tensors"

  def shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape of a tensor."""
    return tuple(self[name].shape)

  def dtype(self, name: str) -> np.dtype:
    """Returns the dtype of a tensor."""
    return self[name].dtype


class Held(Tensors):
  """Tensors that are in memory already."""

  def __init__(self, tensors: Mapping[str, np.ndarray]):
    self._tensors = tensors

  def __getitem__(self, name: str) -> np.ndarray:
    return self._tensors[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._tensors)

  def __len__(self) -> int:
    return len(self._tensors)


class Without(Tensors):
  """Tensors with some names left out; nothing is read for it."""

  def __init__(self, tensors: Tensors, names: Iterable[str]):
    self._tensors, self._hidden, self.origin = tensors, frozenset(names), tensors.origin

  def __getitem__(self, name: str) -> np.ndarray:
    if name in self._hidden:
      raise KeyError(name)
    return self._tensors[name]

  def __iter__(self) -> Iterator[str]:
    return (name for name in self._tensors if name not in self._hidden)

  def __len__(self) -> int:
    return sum(1 for _ in self)

  def shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape of a tensor."""
    return self._tensors.shape(name)

  def dtype(self, name: str) -> np.dtype:
    """Returns the dtype of a tensor."""
    return self._tensors.dtype(name)


def as_tensors(tensors: Mapping[str, np.ndarray]) -> Tensors:
  """Returns `tensors`, or a plain mapping as Tensors."""
  return tensors if isinstance(tensors, Tensors) else Held(tensors)


def finite(tensor: np.ndarray) -> bool:
  """Returns whether no value is infinite or no number; by bits, since half precisions are slow to compare."""
  mask = _EXPONENTS.get(tensor.dtype.itemsize, {}).get(tensor.dtype.name)
  if mask is None:
    return tensor.dtype.kind in "iub" or bool(np.isfinite(tensor).all())
  bits = np.ascontiguousarray(tensor).view(np.dtype(f"u{tensor.dtype.itemsize}"))
  return not bool(((bits & mask) == mask).any())
