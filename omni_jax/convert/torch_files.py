"""Files of torch that hold nothing but tensors and plain values, read without running what a pickle may say."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole


def read_torch(path: Path) -> Any:
  """Returns what a file of torch holds; tensors stay torch's, on the CPU.

  Raises:
    UserError: the file is missing or damaged, or holds objects that only running its pickle would make.
  """
  import torch

  try:
    return torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # bytes that are no pickle make torch's reader raise whatever its tables raise
    raise UserError(
      f"cannot read {path.name}: {(str(error) or type(error).__name__).splitlines()[0]}",
      where=path,
      rule="the weights are one whole file of torch that holds tensors only",
      remedy="copy the file again; where it holds other objects, keep its tensors only: torch.save({'state_dict': "
      "torch.load(FILE, weights_only=False)['state_dict']}, NEW), where you trust it",
    ) from error


def write_torch(path: Path, value: Any) -> None:
  """Writes a file of torch, whole or not at all; the file is made in memory first.

  Raises:
    UserError: the folder cannot be written or the disk is full; the earlier file, if any, is untouched.
  """
  import torch

  held = io.BytesIO()
  torch.save(value, held)
  write_whole(path, held.getvalue())


def in_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns arrays as tensors of the same bits; NumPy's bfloat16, which torch does not know, too."""
  import torch

  made = {}
  for name, array in tensors.items():
    half = array.dtype.name == "bfloat16"
    tensor = torch.from_numpy(np.array(array.view(np.int16) if half else array))
    made[name] = tensor.view(torch.bfloat16) if half else tensor
  return made


def in_numpy(tensors: Any, *, where: Path) -> dict[str, np.ndarray]:
  """Returns torch tensors by name as arrays of the same bits.

  Raises:
    UserError: something else than tensors by name.
  """
  if not isinstance(tensors, Mapping) or not all(hasattr(tensor, "numpy") for tensor in tensors.values()):
    raise UserError(
      f"a {type(tensors).__name__} where tensors by name were expected",
      where=where,
      rule="the file holds a state dict",
      remedy="check that it is the file of the weights",
    )
  import jax.numpy as jnp
  import torch

  return {
    name: tensor.view(torch.int16).numpy().view(jnp.bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    for name, tensor in tensors.items()
  }
