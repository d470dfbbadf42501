"""Reading and writing Hugging Face folders: safetensors in one file or in shards with an index, beside config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
  """Returns every tensor of a folder by name; bfloat16 comes as `ml_dtypes.bfloat16`.

  Raises:
    UserError: no weights, a missing shard, or a damaged file.
  """
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  index = folder / INDEX
  files = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else [SINGLE]
  tensors: dict[str, np.ndarray] = {}
  for name in files:
    try:
      tensors |= load_file(folder / name)
    except (OSError, SafetensorError) as error:
      raise UserError(
        f"cannot read {name}: {error}",
        where=folder,
        rule=f"a model folder holds {SINGLE}, or {INDEX} and every shard it names",
        remedy="copy the folder again",
      ) from error
  return tensors


def write_tensors(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes one safetensors file, complete or not at all."""
  from safetensors.numpy import save_file

  partial = folder / f"{SINGLE}.partial"
  # The format key is what transformers looks for before it loads a file.
  save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, partial, {"format": "pt"})
  partial.replace(folder / SINGLE)


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
