"""Conversion as a table: one row per kind of tensor, read in either direction.

A row says: their tensor, whose name may contain `{layer}`, is our leaves side by side, each rearranged by one pattern.

    Rule("layers.{layer}.qkv.weight", ("query.weight", "key.weight", "value.weight"), "output input -> input output")

With `{layer}`, our leaves carry a leading layer axis, and with `{layer}` and `{expert}` a layer and an expert axis.
Each tensor must be used once and each leaf set once; everything that is left over or missing is told in one message.
Values are moved, never computed with: a round trip is bit-exact.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError

LAYER, EXPERT = "{layer}", "{expert}"
Index = tuple[int, ...]  # of a leaf's leading axes: (), (layer,) or (layer, expert)


@dataclasses.dataclass(frozen=True)
class Rule:
  """One row of a conversion table.

  Attributes:
    theirs: name in their file; `{expert}` only behind `{layer}`.
    ours: dotted paths of our leaves, which side by side along their first axis make their tensor.
    pattern: einops pattern from their layout to ours.
    sizes: lengths of axes that a pattern splits.
    first_layer: their number of our layer 0.
  """

  theirs: str
  ours: tuple[str, ...]
  pattern: str = "... -> ..."
  sizes: tuple[tuple[str, int], ...] = ()
  first_layer: int = 0

  @property
  def num_leading(self) -> int:
    """How many leading axes of our leaves are spread over their names: none, layers, or layers and experts."""
    return self.theirs.count(LAYER) + self.theirs.count(EXPERT)

  def indices(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Index]:
    """Returns the index of each of their tensors in the leading axes of our leaves, whose shapes are given."""
    return list(np.ndindex(*shapes[self.ours[0]][: self.num_leading]))

  def name(self, index: Index) -> str:
    """Returns their name of the tensor at an index; of a row without leading axes, `theirs` itself."""
    name = self.theirs
    for place, number in zip((LAYER, EXPERT), index, strict=False):
      name = name.replace(place, str(number + self.first_layer if place == LAYER else number))
    return name

  def rows(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Returns how many rows of their tensor the leaf at `path` makes."""
    leaf = np.broadcast_to(np.zeros((), bool), shapes[path][self.num_leading :])
    return self.to_theirs(leaf).shape[0] if leaf.shape else 0

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """Returns one part in our layout."""
    return _rearrange(tensor, self.pattern, self.sizes)

  def to_theirs(self, leaf: np.ndarray) -> np.ndarray:
    """Returns one leaf (at one index) in their layout."""
    return _rearrange(leaf, " -> ".join(reversed(self.pattern.split(" -> "))), self.sizes)


def prefixed(rules: Sequence[Rule], *, theirs: str = "", ours: str = "") -> list[Rule]:
  """Returns the rules of a part as rules of a whole that holds it under these prefixes."""
  return [
    dataclasses.replace(rule, theirs=theirs + rule.theirs, ours=tuple(ours + path for path in rule.ours))
    for rule in rules
  ]


def tensor_shapes(rules: Sequence[Rule], *, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every tensor of their file by name, without any values.

  Args:
    rules: the table.
    shapes: of every leaf of our model.

  Raises:
    UserError: rules and leaves name different paths, or two rules name one tensor.
  """
  _complain("model", _differences(given=list(shapes), wanted=[path for rule in rules for path in rule.ours]))
  names = [rule.name(index) for rule in rules for index in rule.indices(shapes)]
  _complain("model", _differences(given=names, wanted=names))
  found: dict[str, tuple[int, ...]] = {}
  for rule in rules:
    shape, _ = _theirs_shape(rule, shapes)
    found |= {rule.name(index): shape for index in rule.indices(shapes)}
  return found


def check_shapes(given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
  """Raises a UserError that lists every name in one only, and every shape that differs."""
  wrong = [
    f"{name}: shape {given[name]}, ours is {expected[name]}"
    for name in sorted(set(given) & set(expected))
    if tuple(given[name]) != tuple(expected[name])
  ]
  _complain("tensors", _differences(given=list(given), wanted=list(expected)) + wrong)


def export_tensors(rules: Sequence[Rule], leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns their tensors by name from our leaves by dotted path.

  Raises:
    UserError: rules and leaves name different paths.
  """
  wanted = [path for rule in rules for path in rule.ours]
  _complain("model", _differences(given=list(leaves), wanted=wanted))
  shapes = {path: np.shape(leaf) for path, leaf in leaves.items()}
  tensors: dict[str, np.ndarray] = {}
  for rule in rules:
    parts = [np.asarray(leaves[path]) for path in rule.ours]
    for index in rule.indices(shapes):
      moved = [rule.to_theirs(part[index]) for part in parts]
      tensors[rule.name(index)] = np.ascontiguousarray(np.concatenate(moved)) if len(moved) > 1 else moved[0]
  return tensors


def import_leaves(
  rules: Sequence[Rule], tensors: Mapping[str, np.ndarray], *, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
  """Returns our leaves by dotted path from their tensors; dtypes are kept.

  Args:
    rules: the table.
    tensors: by their names.
    shapes: of every leaf of our model, which also say how many layers and experts there are.

  Raises:
    UserError: a tensor missing, left over or of another shape; a leaf of ours that no rule sets.
  """
  paths = [path for rule in rules for path in rule.ours]
  problems = [f"+ {path} (ours, set by no rule)" for path in sorted(set(shapes) - set(paths))]
  names = [rule.name(index) for rule in rules for index in rule.indices(shapes)]
  _complain("tensors", problems + _differences(given=list(tensors), wanted=names))
  leaves: dict[str, np.ndarray] = {}
  for rule in rules:
    problems += _import_rule(rule, tensors, shapes=shapes, leaves=leaves)
  _complain("tensors", problems)
  return leaves


def _import_rule(
  rule: Rule, tensors: Mapping[str, np.ndarray], *, shapes: Mapping[str, Any], leaves: dict[str, np.ndarray]
) -> list[str]:
  """Puts the leaves of one rule into `leaves`, a stack slice by slice, and returns what does not fit."""
  problems: list[str] = []
  expected, rows = _theirs_shape(rule, shapes)
  for index in rule.indices(shapes):
    name = rule.name(index)
    tensor = tensors[name]
    if tensor.shape != expected:
      joined = f" ({' + '.join(map(str, rows))} rows)" if len(rows) > 1 else ""
      problems.append(f"{name}: shape {tensor.shape}, ours is {expected}{joined}")
      continue
    parts = np.split(tensor, np.cumsum(rows)[:-1]) if len(rows) > 1 else [tensor]
    for path, part in zip(rule.ours, parts, strict=True):
      if not index:
        leaves[path] = rule.to_ours(part)
        continue
      stack = leaves.setdefault(path, np.empty(shapes[path], tensor.dtype))
      if stack.dtype != tensor.dtype:
        problems.append(f"{name}: {tensor.dtype}, before it {stack.dtype}")
      else:
        stack[index] = rule.to_ours(part)
  return problems


def _theirs_shape(rule: Rule, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], list[int]]:
  """Returns the shape of one of their tensors, and how many rows of it each leaf makes; nothing is allocated."""
  nothing = np.zeros((), bool)
  parts = [rule.to_theirs(np.broadcast_to(nothing, shapes[path][rule.num_leading :])).shape for path in rule.ours]
  if len(parts) == 1:
    return parts[0], [0]
  rows = [part[0] for part in parts]
  return (sum(rows), *parts[0][1:]), rows


def _rearrange(array: np.ndarray, pattern: str, sizes: tuple[tuple[str, int], ...]) -> np.ndarray:
  from einops import rearrange

  return rearrange(array, pattern, **dict(sizes))


def _differences(*, given: list[str], wanted: list[str]) -> list[str]:
  twice = sorted(name for name, number in collections.Counter(wanted).items() if number > 1)
  return (
    [f"- {name}" for name in sorted(set(given) - set(wanted))]
    + [f"+ {name}" for name in sorted(set(wanted) - set(given))]
    + [f"{name}: used twice" for name in twice]
  )


def _complain(where: str, problems: list[str]) -> None:
  if not problems:
    return
  shown = problems[:40] + ([f"... and {len(problems) - 40} more"] if len(problems) > 40 else [])
  raise UserError(
    f"{len(problems)} names or shapes do not fit (- only given, + only expected):\n    " + "\n    ".join(shown),
    where=f"conversion of {where}",
    rule="every tensor is used once, every leaf is set once, and shapes agree",
    remedy="check that the file belongs to this model and config",
  )
