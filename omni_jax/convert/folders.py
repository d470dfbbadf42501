"""What the files of a Hugging Face folder are called, and its JSON files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
  """Returns the object in a JSON file.

  Raises:
    UserError: the file is missing or is not JSON.
  """
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise UserError(
      f"cannot read {path.name}: {error}",
      where=path.parent,
      rule="a model folder holds a readable config.json",
      remedy="copy the folder again",
    ) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
  """Writes a JSON file, complete or not at all."""
  write_whole(path, json.dumps(value, indent=2) + "\n")
