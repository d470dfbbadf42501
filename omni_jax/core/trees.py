"""Pytrees by dotted path: the same names in checkpoints, freezing rules, conversion tables and messages.

The path of a parameter is its attribute path, `decoder.blocks.attention.query`, whatever container holds it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax

from omni_jax.core.errors import UserError


def paths(tree: Any) -> list[str]:
  """Returns the dotted path of every leaf, in the order of `jax.tree.leaves`."""
  return [dotted(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def dotted(path: tuple[Any, ...]) -> str:
  """Returns a JAX key path as names joined by dots; the `value` inside an nnx variable is not a name of ours."""
  names = [str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry)))) for entry in path]
  if names and names[-1] == "value":
    names = names[:-1]
  return ".".join(names)


def flatten(tree: Any) -> dict[str, Any]:
  """Returns dotted path -> leaf."""
  return {dotted(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def unflatten(like: Any, leaves: Mapping[str, Any]) -> Any:
  """Returns a tree of the structure of `like` holding `leaves` by path.

  Raises:
    UserError: the names differ; both lists are shown, `-` for what only the file has and `+` for what only we have.
  """
  check_names(given=set(leaves), expected=set(paths(like)), where="tree")
  return jax.tree_util.tree_map_with_path(lambda path, _: leaves[dotted(path)], like)


def map_paths(function: Callable[[str, Any], Any], tree: Any) -> Any:
  """Returns the tree of `function(path, leaf)`."""
  return jax.tree_util.tree_map_with_path(lambda path, leaf: function(dotted(path), leaf), tree)


def matches(pattern: str, path: str) -> bool:
  """Whether the regular expression `pattern` matches the whole of `path` or a whole leading part of it."""
  return re.fullmatch(rf"(?:{pattern})(?:\..*)?", path) is not None


def check_names(*, given: set[str], expected: set[str], where: object) -> None:
  """Raises a UserError that lists every difference between two sets of names."""
  if given == expected:
    return
  lines = [f"- {name}" for name in sorted(given - expected)] + [f"+ {name}" for name in sorted(expected - given)]
  shown = lines[:40] + ([f"... and {len(lines) - 40} more"] if len(lines) > 40 else [])
  raise UserError(
    f"{len(lines)} names differ (- only given, + only expected):\n    " + "\n    ".join(shown),
    where=where,
    rule="every name given is used and every name expected is given",
    remedy="check that the file and the config belong to the same model",
  )


def count(tree: Any) -> int:
  """Returns the number of array elements in the tree."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree) if hasattr(leaf, "size"))
