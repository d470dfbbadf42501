"""Files of torch that hold tensors only, read without running what else a pickle may hold, and written whole."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError


def read_torch(path: Path) -> dict[str, Any]:
  """Returns what a file of torch holds.

  Raises:
    UserError: it is missing, cut short, or holds more than tensors.
  """
  import torch

  try:
    return torch.load(path, map_location="cpu", weights_only=True)
  except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
    raise UserError(
      f"cannot read {path.name}: {str(error).splitlines()[0]}",
      where=path,
      rule="the weights are one whole file of torch that holds tensors only",
      remedy="copy the file again",
    ) from error


def write_torch(path: Path, value: Any) -> None:
  """Writes tensors, complete or not at all."""
  import torch

  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  torch.save(value, partial)
  partial.replace(path)


def to_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns arrays as tensors of the same bits; NumPy's bfloat16, which torch does not know, too."""
  import torch

  tensors = {}
  for name, array in arrays.items():
    half = array.dtype.name == "bfloat16"
    tensor = torch.from_numpy(np.array(array.view(np.int16) if half else array))
    tensors[name] = tensor.view(torch.bfloat16) if half else tensor
  return tensors


def to_arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns tensors as arrays of the same bits."""
  import jax.numpy as jnp
  import torch

  return {
    name: tensor.view(torch.int16).numpy().view(jnp.bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    for name, tensor in tensors.items()
  }
