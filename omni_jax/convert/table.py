"""Conversion as a table: one row per kind of tensor, read in either direction.

A row says: their tensor, whose name may contain `{layer}`, is our leaves side by side, each rearranged by one pattern.

    Rule("layers.{layer}.qkv.weight", ("query.weight", "key.weight", "value.weight"), "output input -> input output")

With `{layer}`, our leaves carry a leading layer axis. Each tensor must be used once and each leaf set once; everything
that is left over or missing is told in one message. Values are moved, never computed with: a round trip is bit-exact.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError

LAYER = "{layer}"


@dataclasses.dataclass(frozen=True)
class Rule:
  """One row of a conversion table.

  Attributes:
    theirs: name in their file.
    ours: dotted paths of our leaves, which side by side along their first axis make their tensor.
    pattern: einops pattern from their layout to ours.
    sizes: lengths of axes that a pattern splits.
  """

  theirs: str
  ours: tuple[str, ...]
  pattern: str = "... -> ..."
  sizes: tuple[tuple[str, int], ...] = ()

  @property
  def stacked(self) -> bool:
    """Whether the row stands for one tensor per layer."""
    return LAYER in self.theirs

  def name(self, layer: int) -> str:
    """Returns their name for a layer; of a row that is not stacked, `theirs` itself."""
    return self.theirs.replace(LAYER, str(layer))

  def to_ours(self, tensor: np.ndarray) -> np.ndarray:
    """Returns one part in our layout."""
    return _rearrange(tensor, self.pattern, self.sizes)

  def to_theirs(self, leaf: np.ndarray) -> np.ndarray:
    """Returns one leaf (of one layer) in their layout."""
    return _rearrange(leaf, " -> ".join(reversed(self.pattern.split(" -> "))), self.sizes)


def prefixed(rules: Sequence[Rule], *, theirs: str = "", ours: str = "") -> list[Rule]:
  """Returns the rules of a part as rules of a whole that holds it under these prefixes."""
  return [
    dataclasses.replace(rule, theirs=theirs + rule.theirs, ours=tuple(ours + path for path in rule.ours))
    for rule in rules
  ]


def export_tensors(rules: Sequence[Rule], leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns their tensors by name from our leaves by dotted path.

  Raises:
    UserError: rules and leaves name different paths.
  """
  wanted = [path for rule in rules for path in rule.ours]
  _complain("model", _differences(given=list(leaves), wanted=wanted))
  tensors: dict[str, np.ndarray] = {}
  for rule in rules:
    parts = [np.asarray(leaves[path]) for path in rule.ours]
    for layer in range(parts[0].shape[0]) if rule.stacked else [0]:
      moved = [rule.to_theirs(part[layer] if rule.stacked else part) for part in parts]
      tensors[rule.name(layer)] = np.ascontiguousarray(np.concatenate(moved)) if len(moved) > 1 else moved[0]
  return tensors


def import_leaves(
  rules: Sequence[Rule], tensors: Mapping[str, np.ndarray], *, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
  """Returns our leaves by dotted path from their tensors; dtypes are kept.

  Args:
    rules: the table.
    tensors: by their names.
    shapes: of every leaf of our model, which also say how many layers there are.

  Raises:
    UserError: a tensor missing, left over or of another shape; a leaf of ours that no rule sets.
  """
  paths = [path for rule in rules for path in rule.ours]
  problems = [f"+ {path} (ours, set by no rule)" for path in sorted(set(shapes) - set(paths))]
  names = [rule.name(layer) for rule in rules for layer in _layers(rule, shapes)]
  _complain("tensors", problems + _differences(given=list(tensors), wanted=names))
  leaves: dict[str, np.ndarray] = {}
  for rule in rules:
    layers = [_import_parts(rule, tensors[rule.name(layer)], shapes, problems) for layer in _layers(rule, shapes)]
    for path, *parts in zip(rule.ours, *layers, strict=True):
      leaves[path] = np.stack(parts) if rule.stacked else parts[0]
  problems += [
    f"{path}: shape {leaf.shape}, ours is {shapes[path]}" for path, leaf in leaves.items() if leaf.shape != shapes[path]
  ]
  _complain("tensors", problems)
  return leaves


def _import_parts(rule: Rule, tensor: np.ndarray, shapes: Mapping[str, Any], problems: list[str]) -> list[np.ndarray]:
  if len(rule.ours) == 1:
    return [rule.to_ours(tensor)]
  widths = []
  for path in rule.ours:
    shape = shapes[path][1:] if rule.stacked else shapes[path]
    widths.append(rule.to_theirs(np.empty(shape, bool)).shape[0])
  if sum(widths) != tensor.shape[0]:
    problems.append(f"{rule.theirs}: {tensor.shape[0]} rows, ours are {' + '.join(map(str, widths))}")
  return [rule.to_ours(part) for part in np.split(tensor, np.cumsum(widths)[:-1])]


def _layers(rule: Rule, shapes: Mapping[str, tuple[int, ...]]) -> range:
  return range(shapes[rule.ours[0]][0] if rule.stacked else 1)


def _rearrange(array: np.ndarray, pattern: str, sizes: tuple[tuple[str, int], ...]) -> np.ndarray:
  from einops import rearrange

  return rearrange(array, pattern, **dict(sizes))


def _differences(*, given: list[str], wanted: list[str]) -> list[str]:
  twice = sorted({name for name in wanted if wanted.count(name) > 1})
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
