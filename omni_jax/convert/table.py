"""Conversion as a table: one row per kind of tensor, read in either direction.

A row says: their tensor, whose name may contain `{layer}`, is our leaves side by side, each rearranged by one pattern.

    Rule("layers.{layer}.qkv.weight", ("query.weight", "key.weight", "value.weight"), "output input -> input output")

With `{layer}`, our leaves carry a leading layer axis, and with `{layer}` and `{expert}` a layer and an expert axis.
With `groups=G`, leaves lie side by side within each of G groups of rows: queries, keys and values of one head, then of
the next.
Each tensor must be used once and each leaf set once; everything that is left over or missing is told in one message.
Values are moved, never computed with: a round trip is bit-exact.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert.tensors import Held, Tensors, as_tensors, finite
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
    groups: of their rows, each with its part of every leaf.
  """

  theirs: str
  ours: tuple[str, ...]
  pattern: str = "... -> ..."
  sizes: tuple[tuple[str, int], ...] = ()
  first_layer: int = 0
  groups: int = 1

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

  def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns their tensor of its parts in their layout."""
    if len(parts) == 1:
      return parts[0]
    grouped = [part.reshape(self.groups, -1, *part.shape[1:]) for part in parts]
    return np.concatenate(grouped, axis=1).reshape(-1, *parts[0].shape[1:])

  def part(self, tensor: np.ndarray, rows: Sequence[int], part: int) -> np.ndarray:
    """Returns one part of their tensor, in their layout; `rows` are those of each part."""
    if len(rows) == 1:
      return tensor
    first, last = sum(rows[:part]) // self.groups, sum(rows[: part + 1]) // self.groups
    grouped = tensor.reshape(self.groups, -1, *tensor.shape[1:])
    return grouped[:, first:last].reshape(-1, *tensor.shape[1:])

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
  paths = [path for rule in rules for path in rule.ours]
  _complain("conversion of the model", _differences(given=list(shapes), wanted=paths))
  names = [rule.name(index) for rule in rules for index in rule.indices(shapes)]
  _complain("conversion of the model", _differences(given=names, wanted=names))
  found: dict[str, tuple[int, ...]] = {}
  for rule in rules:
    shape, _ = _theirs_shape(rule, shapes)
    found |= {rule.name(index): shape for index in rule.indices(shapes)}
  return found


def export_stream(rules: Sequence[Rule], leaves: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields name and values of each of their tensors, one at a time, from our leaves by dotted path, sharded or not.

  Raises:
    UserError: rules and leaves name different paths; before the first tensor.
  """
  shapes = {path: tuple(np.shape(leaf)) for path, leaf in leaves.items()}
  tensor_shapes(rules, shapes=shapes)
  for rule in rules:
    for index in rule.indices(shapes):
      moved = [rule.to_theirs(np.asarray(leaves[path][index] if index else leaves[path])) for path in rule.ours]
      yield rule.name(index), np.asarray(rule.joined(moved), order="C")


def export_tensors(rules: Sequence[Rule], leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns all that `export_stream` yields, by name."""
  return dict(export_stream(rules, leaves))


def import_leaves(
  rules: Sequence[Rule],
  tensors: Mapping[str, np.ndarray],
  *,
  shapes: Mapping[str, tuple[int, ...]],
  places: Mapping[str, jax.sharding.Sharding] | None = None,
) -> dict[str, jax.Array]:
  """Returns our leaves by dotted path from their tensors, each device holding its part; dtypes are kept.

  Beside the leaves, one device's part of one leaf and one tensor are in memory at a time.

  Args:
    rules: the table.
    tensors: by their names; a folder is checked by its headers before it is read.
    shapes: of every leaf of our model, which also say how many layers and experts there are.
    places: where each leaf lives (`core.sharding.places`); on the first device by default.

  Raises:
    UserError: a tensor missing, left over, of another shape or of another dtype than the layers before it; a leaf of
      ours that no rule sets; weights that are not finite. All are listed.
  """
  given = as_tensors(tensors)
  check_tensors(rules, given, shapes=shapes)
  places = places or dict.fromkeys(shapes, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
  watched = _Watched(given)
  leaves = {}
  for rule in rules:
    for part, path in enumerate(rule.ours):
      fill = _leaf_reader(rule, watched, part=part, shapes=shapes)
      leaves[path] = jax.make_array_from_callback(tuple(shapes[path]), places[path], fill)
      leaves[path].block_until_ready()  # its host buffer is free before the next one is made
  if watched.spoilt:
    raise UserError(
      "weights that are not finite:\n    " + "\n    ".join(sorted(watched.spoilt)[:40]),
      where=given.origin,
      rule="every weight is a number",
      remedy="copy the file again, or take an earlier checkpoint of the training that wrote it",
    )
  return leaves


def check_tensors(rules: Sequence[Rule], tensors: Tensors, *, shapes: Mapping[str, tuple[int, ...]]) -> None:
  """Raises a UserError that lists every name, shape and dtype that does not fit; values are not looked at."""
  paths = [path for rule in rules for path in rule.ours]
  problems = [f"+ {path} (ours, set by no rule)" for path in sorted(set(shapes) - set(paths))]
  problems += [f"- {path} (set by a rule, not ours)" for path in sorted(set(paths) - set(shapes))]
  problems += _twice(paths)
  known = [rule for rule in rules if set(rule.ours) <= set(shapes)]
  names = [rule.name(index) for rule in known for index in rule.indices(shapes)]
  problems += _differences(given=list(tensors), wanted=names)
  for rule in known:
    problems += _misfits(rule, tensors, shapes=shapes)
  _complain(tensors.origin, problems)


def _misfits(rule: Rule, tensors: Tensors, *, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
  """Returns what is wrong with the tensors of one row that are there: a shape, a dtype."""
  problems: list[str] = []
  expected, rows = _theirs_shape(rule, shapes)
  joined = f" ({' + '.join(map(str, rows))} rows)" if len(rows) > 1 else ""
  there = [name for name in map(rule.name, rule.indices(shapes)) if name in tensors]
  for name in there:
    shape, dtype, first = tensors.shape(name), tensors.dtype(name), tensors.dtype(there[0])
    if shape != expected:
      problems.append(f"{name}: shape {shape}, ours is {expected}{joined}")
    if dtype != first:
      problems.append(f"{name}: {dtype}, before it {first}")
    if dtype.itemsize == 8 and not jax.config.read("jax_enable_x64"):
      problems.append(f"{name}: {dtype}, which JAX would halve (JAX_ENABLE_X64=1 keeps it)")
  return problems


def _leaf_reader(
  rule: Rule, tensors: Mapping[str, np.ndarray], *, part: int, shapes: Mapping[str, tuple[int, ...]]
) -> Callable[[tuple[slice, ...] | None], np.ndarray]:
  """Returns the function that makes any block of a leaf (None: all of it) from the tensors that it covers."""
  shape, leading = shapes[rule.ours[part]], rule.num_leading
  _, rows = _theirs_shape(rule, shapes)

  def read(index: Index, inner: tuple[slice, ...]) -> np.ndarray:
    return rule.to_ours(rule.part(tensors[rule.name(index)], rows, part))[inner]

  def fill(where: tuple[slice, ...] | None) -> np.ndarray:
    bounds = [range(size)[one] for size, one in zip(shape, where or (slice(None),) * len(shape), strict=True)]
    inner = tuple(slice(one.start, one.stop) for one in bounds[leading:])
    if not leading:
      return np.asarray(read((), inner), order="C")
    indices = list(itertools.product(*bounds[:leading]))
    first = read(indices[0], inner)
    out = np.empty((len(indices), *first.shape), first.dtype)
    out[0] = first
    for place, index in enumerate(indices[1:], start=1):
      out[place] = read(index, inner)
    return out.reshape([len(one) for one in bounds])

  return fill


class _Watched(Held):
  """Tensors that are looked at as they are read: `spoilt` are the names of those with values that are no numbers."""

  def __init__(self, tensors: Tensors):
    super().__init__(tensors)
    self.spoilt: set[str] = set()

  def __getitem__(self, name: str) -> np.ndarray:
    tensor = super().__getitem__(name)
    if not finite(tensor):
      self.spoilt.add(name)
    return tensor


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
  return (
    [f"- {name}" for name in sorted(set(given) - set(wanted))]
    + [f"+ {name}" for name in sorted(set(wanted) - set(given))]
    + _twice(wanted)
  )


def _twice(names: list[str]) -> list[str]:
  return [f"{name}: used twice" for name in sorted(n for n, count in collections.Counter(names).items() if count > 1)]


def _complain(where: Path | str, problems: list[str]) -> None:
  if not problems:
    return
  shown = problems[:40] + ([f"... and {len(problems) - 40} more"] if len(problems) > 40 else [])
  raise UserError(
    f"{len(problems)} names, shapes or dtypes do not fit (- only given, + only expected):\n    " + "\n    ".join(shown),
    where=where,
    rule="every tensor is used once, every leaf is set once, shapes agree, and the layers of a stack share a dtype",
    remedy="check that the file belongs to this model and config",
  )
