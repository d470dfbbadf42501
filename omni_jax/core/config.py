"""Configs are frozen dataclasses: changed by dotted path, compared, printed, and stored so that they rebuild.

A stored config is JSON in which every dataclass carries its import path under `"type"` and every function is written
as `{"function": "module:name"}`; only names inside `omni_jax` are imported back, so a file cannot run other code.
A field made by `added` is stored only where it differs from its default, so that configs stored before it
existed still load and keep their fingerprint.
"""

import ast
import dataclasses
import enum
import hashlib
import importlib
import json
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from omni_jax.core.errors import UserError

Config = TypeVar("Config")

_PACKAGE = "omni_jax"
_ADDED = "added"


def added(default: Any) -> Any:
  """Returns a dataclass field that came after configs were stored.

  Where it holds its default it is not written, so that what was stored before is still read, with the same fingerprint.
  """
  return dataclasses.field(default=default, metadata={_ADDED: True})


def to_json(value: Any) -> Any:
  """Returns `value` as plain JSON data; `from_json` gives back an equal value."""
  if _is_config(value):
    fields = {
      field.name: to_json(getattr(value, field.name))
      for field in dataclasses.fields(value)
      if not (_ADDED in field.metadata and getattr(value, field.name) == field.default)
    }
    return {"type": _name_of(type(value)), **fields}
  if isinstance(value, enum.Enum):
    return {"enum": _name_of(type(value)), "name": value.name}
  if isinstance(value, pathlib.PurePath):
    return {"path": str(value)}
  if callable(value):
    return {"function": _name_of(value)}
  if isinstance(value, Mapping):
    return {"mapping": {str(key): to_json(item) for key, item in value.items()}}
  if isinstance(value, (tuple, list)):
    return [to_json(item) for item in value]
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  raise TypeError(f"a config cannot hold {value!r} of type {type(value).__name__}")


def from_json(data: Any) -> Any:
  """Returns the value that `to_json` wrote; lists come back as tuples."""
  if isinstance(data, list):
    return tuple(from_json(item) for item in data)
  if not isinstance(data, dict):
    return data
  if "type" in data:
    cls = _import(data["type"])
    known = {field.name for field in dataclasses.fields(cls)}
    given = set(data) - {"type"}
    later = {field.name for field in dataclasses.fields(cls) if _ADDED in field.metadata}
    if not known - later <= given <= known:
      raise UserError(
        f"stored config of {data['type']} has other fields: {_difference(given, known - (later - given))}",
        where=data["type"],
        rule="the fields of a stored config equal those of the class that wrote it",
        remedy="use the version of omni_jax that wrote the checkpoint, or train it again",
      )
    return cls(**{name: from_json(data[name]) for name in given})
  if "enum" in data:
    return _import(data["enum"])[data["name"]]
  if "function" in data:
    return _import(data["function"])
  if "path" in data:
    return pathlib.Path(data["path"])
  if not isinstance(data.get("mapping"), dict):
    raise UserError(
      f"stored config holds an object with the keys {', '.join(sorted(data)) or '(none)'}",
      where="stored config",
      rule="an object is a type, an enum, a function, a path or a mapping",
      remedy="the file is damaged or was not written by this project",
    )
  return {key: from_json(item) for key, item in data["mapping"].items()}


def fingerprint(config: Any) -> str:
  """Returns twelve hexadecimal digits that change with any field of `config`."""
  text = json.dumps(to_json(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def replace(config: Config, assignments: Mapping[str, str]) -> Config:
  """Returns `config` with dotted fields set from text, as in `--set optimizer.learning_rate=1e-3`.

  Args:
    config: a frozen dataclass, possibly holding others.
    assignments: dotted path -> Python literal (a bare word counts as a string).

  Raises:
    UserError: an unknown field, or a value of another type than the field holds.
  """
  for path, text in assignments.items():
    config = _replace_one(config, path, path.split("."), text)
  return config


def difference(old: Any, new: Any) -> list[str]:
  """Returns one line for each dotted field that differs: `path: old -> new`."""
  before, after = flatten(old), flatten(new)
  paths = sorted(set(before) | set(after))
  return [
    f"{path}: {before.get(path)!r} -> {after.get(path)!r}" for path in paths if before.get(path) != after.get(path)
  ]


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
  """Returns dotted path -> leaf value; tuples and mappings are opened too."""
  if _is_config(config):
    items = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
  elif isinstance(config, Mapping):
    items = list(config.items())
  elif isinstance(config, (tuple, list)) and any(dataclasses.is_dataclass(item) for item in config):
    items = [(str(index), item) for index, item in enumerate(config)]
  else:
    return {prefix: config}
  flat: dict[str, Any] = {}
  for name, value in items:
    flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
  return flat


def _replace_one(config: Any, path: str, names: list[str], text: str) -> Any:
  head, *rest = names
  fields = {field.name for field in dataclasses.fields(config)} if _is_config(config) else set()
  if head not in fields:
    raise UserError(
      f"unknown field {head!r}",
      where=f"--set {path}={text}",
      rule=f"{type(config).__name__} has the fields {', '.join(sorted(fields)) or 'none'}",
      remedy="choose one of these",
    )
  old = getattr(config, head)
  new = _replace_one(old, path, rest, text) if rest else _parse(path, text, old, allowed=_alternatives(config, head))
  return dataclasses.replace(config, **{head: new})


def _is_config(value: Any) -> bool:
  return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _alternatives(config: Any, name: str) -> tuple[Any, ...]:
  """Returns the types of a field that is a union; none otherwise."""
  declared = next(field.type for field in dataclasses.fields(config) if field.name == name)
  return typing.get_args(declared) if isinstance(declared, types.UnionType) else ()


def _parse(path: str, text: str, old: Any, *, allowed: tuple[Any, ...]) -> Any:
  """Returns the value that `text` means, of the type of `old` or of one that the field's union names."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = text
  if old is None and str in allowed and type(value) not in map(_plain, allowed):
    value = text
  if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if isinstance(old, pathlib.Path) and isinstance(value, str):
    value = pathlib.Path(value)
  if old is not None and type(value) is not type(old) and type(value) not in allowed:
    raise UserError(
      f"{text!r} is a {type(value).__name__}",
      where=f"--set {path}={text}",
      rule=f"{path} holds a {type(old).__name__}, now {old!r}",
      remedy=f"give a {type(old).__name__}",
    )
  return value


def _plain(declared: Any) -> Any:
  return typing.get_origin(declared) or declared


def _name_of(thing: Any) -> str:
  name = f"{thing.__module__}:{thing.__qualname__}"
  if "<" in name:
    raise TypeError(f"{name} cannot be stored: configs hold module-level functions only")
  return name


def _import(name: str) -> Any:
  module, _, qualified = name.partition(":")
  if module.split(".")[0] != _PACKAGE:
    raise UserError(
      f"stored config names {name!r}",
      where=name,
      rule=f"only names inside {_PACKAGE} are imported from a stored config",
      remedy="the file is damaged or was not written by this project",
    )
  try:
    value: Any = importlib.import_module(module)
    for part in qualified.split("."):
      value = getattr(value, part)
  except (ImportError, AttributeError) as error:
    raise UserError(
      f"stored config names {name!r}, which does not exist ({error})",
      where=name,
      rule="the classes and functions of a stored config exist in this version",
      remedy="use the version of omni_jax that wrote the file",
    ) from error
  return value


def _difference(given: set[str], known: set[str]) -> str:
  return " ".join([f"-{name}" for name in sorted(given - known)] + [f"+{name}" for name in sorted(known - given)])
