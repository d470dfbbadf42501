"""Folders of safetensors that do not fit into memory twice: read tensor by tensor, written shard by shard.

    Folder         tensors that are read when they are asked for; names, shapes and dtypes come from the headers, so
                   that a folder is checked before anything of it is loaded
    write_folder   tensors, one after another -> shards of at most so many bytes, and their index

Pickle files (`pytorch_model.bin`) are never opened: a pickle runs what its author wrote into it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert.folders import INDEX, SINGLE, read_json, write_json
from omni_jax.convert.tensors import Tensors
from omni_jax.core.errors import UserError

SHARD_BYTES = 5_000_000_000  # as transformers writes them
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64", "U8": "uint8"}


class Folder(Tensors):
  """The tensors of a Hugging Face folder by name; bfloat16 comes as `ml_dtypes.bfloat16`."""

  def __init__(self, folder: Path):
    """Reads the headers.

    Raises:
      UserError: no safetensors, a missing, truncated or damaged shard, or an index that names other tensors than the
        shards hold; all of it in one message.
    """
    self.origin = self._path = folder
    self._shards: dict[str, Any] = {}
    self._places: dict[str, str] = {}
    problems: list[str] = []
    for name, expected in _files(folder).items():
      problems += self._open(name, expected)
    if problems:
      raise UserError(
        "cannot read the weights:\n    " + "\n    ".join(problems[:40]),
        where=folder,
        rule=f"a model folder holds {SINGLE}, or {INDEX} and every shard it names, complete",
        remedy="copy the folder again",
      )

  def __getitem__(self, name: str) -> np.ndarray:
    return self._shards[self._places[name]].get_tensor(name)

  def __iter__(self) -> Iterator[str]:
    return iter(self._places)

  def __len__(self) -> int:
    return len(self._places)

  def shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape of a tensor, from the header."""
    return tuple(self._header(name).get_shape())

  def dtype(self, name: str) -> np.dtype:
    """Returns the dtype of a tensor, from the header."""
    stored = self._header(name).get_dtype()
    return np.dtype(jax.numpy.dtype(_DTYPES.get(stored, stored.lower())))

  def shard_bytes(self) -> dict[str, int]:
    """Returns the size of every shard."""
    return {name: (self._path / name).stat().st_size for name in self._shards}

  def _header(self, name: str) -> Any:
    return self._shards[self._places[name]].get_slice(name)

  def _open(self, name: str, expected: set[str] | None) -> list[str]:
    """Opens one shard; returns what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    try:
      shard = safe_open(self._path / name, framework="np")
    except (OSError, SafetensorError) as error:
      return [f"{name}: {error}"]
    held = set(shard.keys())
    self._shards[name] = shard
    self._places |= dict.fromkeys(sorted(held), name)
    if expected is None:
      return []
    return [f"{name}: - {tensor} (not in the index)" for tensor in sorted(held - expected)] + [
      f"{name}: + {tensor} (only in the index)" for tensor in sorted(expected - held)
    ]


def write_folder(
  folder: Path, tensors: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int = SHARD_BYTES
) -> dict[str, str]:
  """Writes shards and their index, and returns tensor -> shard; at most one shard is in memory.

  A model of one shard is one file without an index, as transformers writes it. Older weights in the folder are
  replaced, the index after the shards that it names and what is stale last: a reader finds the old model or the new.

  Raises:
    UserError: the folder cannot be written or the disk is full; older weights, if any, are untouched.
  """
  partial: list[tuple[Path, dict[str, int]]] = []
  try:
    with _writing(folder):
      folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(_shards(tensors, shard_bytes)):
      path = folder / f"shard-{number:05d}.partial"
      partial.append((path, {name: tensor.nbytes for name, tensor in shard.items()}))
      with _writing(folder):
        _save(path, shard)
      shard.clear()
    return _publish(folder, partial)
  finally:
    for path, _ in partial:
      path.unlink(missing_ok=True)


def _publish(folder: Path, partial: list[tuple[Path, dict[str, int]]]) -> dict[str, str]:
  """Gives complete shards, with their tensors' names and bytes, their final names; returns tensor -> shard."""
  count = len(partial)
  names = [SINGLE] if count == 1 else [f"model-{k + 1:05d}-of-{count:05d}.safetensors" for k in range(count)]
  placed = {tensor: name for name, (_, held) in zip(names, partial, strict=True) for tensor in held}
  with _writing(folder):
    for name, (path, _) in zip(names, partial, strict=True):
      path.replace(folder / name)
    if count > 1:
      total = sum(size for _, held in partial for size in held.values())
      write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))})
    else:
      (folder / INDEX).unlink(missing_ok=True)
    for old in [*folder.glob("model-*-of-*.safetensors"), folder / SINGLE]:
      if old.name not in names:
        old.unlink(missing_ok=True)
  return placed


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
  """Tells what the disk refuses as an error of the user's."""
  from safetensors import SafetensorError

  try:
    yield
  except (OSError, SafetensorError) as error:
    raise UserError(
      f"cannot write the weights: {error}",
      where=folder,
      rule="the folder can be written and the disk has room for the model",
      remedy="free some space or choose another folder, and run it again; older weights there are untouched",
    ) from error


def _files(folder: Path) -> dict[str, set[str] | None]:
  """Returns the shards of a folder and the tensors that the index says are in each (None without an index)."""
  if (folder / INDEX).exists():
    index = read_json(folder / INDEX)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
      raise UserError(
        "an index without weight_map", where=folder / INDEX, rule="weight_map names a shard for each tensor",
        remedy="copy the folder again",
      )  # fmt: skip
    return {
      name: {tensor for tensor, place in places.items() if place == name} for name in sorted(set(places.values()))
    }
  if not (folder / SINGLE).exists():
    pickles = sorted(path.name for path in folder.glob("*.bin")) if folder.is_dir() else []
    raise UserError(
      f"no {SINGLE}" + (f", only {', '.join(pickles[:3])}" if pickles else ""),
      where=folder,
      rule="weights are safetensors; pickle files can run code and are never opened",
      remedy="convert the folder with transformers: model.save_pretrained(folder, safe_serialization=True)"
      if pickles
      else "correct the path, or copy the folder again",
    )
  return {SINGLE: None}


def _shards(tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int) -> Iterator[dict[str, np.ndarray]]:
  shard: dict[str, np.ndarray] = {}
  size = 0
  for name, tensor in tensors:
    if shard and size + tensor.nbytes > shard_bytes:
      yield shard
      shard, size = {}, 0
    shard[name] = tensor
    size += tensor.nbytes
  yield shard


def _save(path: Path, shard: dict[str, np.ndarray]) -> None:
  from safetensors.numpy import save_file

  # The format key is what transformers looks for before it loads a file.
  save_file(shard, path, {"format": "pt"})
