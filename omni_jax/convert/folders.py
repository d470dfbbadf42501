"""What the files of a Hugging Face folder are called, and its JSON files."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
  """Returns the object in a JSON file.

  Raises:
    UserError: the file is missing, is not JSON, or holds something else than an object.
  """
  try:
    held = json.loads(path.read_text())
    if not isinstance(held, dict):
      raise ValueError(f"it holds a {type(held).__name__}, not an object")
    return held
  except (OSError, ValueError) as error:
    raise UserError(
      f"cannot read {path.name}: {error}",
      where=path.parent,
      rule="a model folder holds a readable config.json",
      remedy="copy the folder again",
    ) from error


@contextlib.contextmanager
def values_of(path: Path) -> Iterator[None]:
  """Tells values of a JSON file from which no config can be made as an error of the user's.

  Raises:
    UserError: what is made inside met a value of another type, a field missing, or sizes that do not fit each other.
  """
  try:
    yield
  except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
    raise UserError(
      f"cannot use the values of {path.name} ({type(error).__name__}: {error})",
      where=path,
      rule="every value has the type that the original writes, and the sizes fit each other",
      remedy="copy the file again, or undo the change that was made to it",
    ) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
  """Writes a JSON file, complete or not at all."""
  write_whole(path, json.dumps(value, indent=2) + "\n")
