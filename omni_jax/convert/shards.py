"""Weights that do not fit into memory twice: safetensors folders read tensor by tensor and written shard by shard.

    Folder             a mapping whose tensors are read when they are asked for; names, shapes and dtypes come from the
                       headers, so that a folder is checked before anything of it is loaded
    import_arrays      Folder -> sharded arrays: each device's part of a leaf is filled slice by slice
    write_folder       tensors, one after another -> shards of at most so many bytes, and their index

Pickle files (`pytorch_model.bin`) are never opened: a pickle runs what its author wrote into it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert.folders import INDEX, SINGLE, read_json, write_json
from omni_jax.convert.table import Index, Rule, check_shapes, tensor_shapes
from omni_jax.core.errors import UserError

SHARD_BYTES = 5_000_000_000  # as transformers writes them
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64", "U8": "uint8"}
_EXPONENTS = {2: {"bfloat16": 0x7F80, "float16": 0x7C00}, 4: {"float32": 0x7F800000}}


class Folder(Mapping[str, np.ndarray]):
  """The tensors of a Hugging Face folder by name; bfloat16 comes as `ml_dtypes.bfloat16`."""

  def __init__(self, folder: Path):
    """Reads the headers.

    Raises:
      UserError: no safetensors, a missing, truncated or damaged shard, or an index that names other tensors than the
        shards hold; all of it in one message.
    """
    self.path = folder
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
    return {name: (self.path / name).stat().st_size for name in self._shards}

  def _header(self, name: str) -> Any:
    return self._shards[self._places[name]].get_slice(name)

  def _open(self, name: str, expected: set[str] | None) -> list[str]:
    """Opens one shard; returns what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    try:
      shard = safe_open(self.path / name, framework="np")
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


class Without(Mapping[str, np.ndarray]):
  """A mapping of tensors with some names left out; nothing is read for it."""

  def __init__(self, tensors: Mapping[str, np.ndarray], names: Iterable[str]):
    self._tensors, self._hidden = tensors, frozenset(names)

  def __getitem__(self, name: str) -> np.ndarray:
    if name in self._hidden:
      raise KeyError(name)
    return self._tensors[name]

  def __iter__(self) -> Iterator[str]:
    return (name for name in self._tensors if name not in self._hidden)

  def __len__(self) -> int:
    return sum(1 for _ in self)

  def shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape of a tensor."""
    return _headers(self._tensors).shape(name)

  def dtype(self, name: str) -> np.dtype:
    """Returns the dtype of a tensor."""
    return _headers(self._tensors).dtype(name)


class _Held:
  """Shapes and dtypes of tensors that are in memory already."""

  def __init__(self, tensors: Mapping[str, np.ndarray]):
    self.shape = lambda name: tensors[name].shape
    self.dtype = lambda name: tensors[name].dtype


def _headers(tensors: Mapping[str, np.ndarray]) -> "Folder | Without | _Held":
  return tensors if isinstance(tensors, Folder | Without) else _Held(tensors)


def import_arrays(
  rules: Sequence[Rule],
  tensors: Mapping[str, np.ndarray],
  *,
  shapes: Mapping[str, tuple[int, ...]],
  shardings: Mapping[str, jax.sharding.Sharding],
) -> dict[str, jax.Array]:
  """Returns our leaves by dotted path from their tensors, each device holding its part; dtypes are kept.

  Beside the arrays, one device's part of one leaf and one tensor are in memory at a time.

  Args:
    rules: the table.
    tensors: by their names; a `Folder` is checked by its headers before it is read.
    shapes: of every leaf of our model.
    shardings: where each leaf lives.

  Raises:
    UserError: names or shapes do not fit, a leaf would mix dtypes, or weights are not finite; all are listed.
  """
  headers = _headers(tensors)
  check_shapes({name: headers.shape(name) for name in tensors}, tensor_shapes(rules, shapes=shapes))
  _check_dtypes({rule.theirs: [headers.dtype(rule.name(at)) for at in rule.indices(shapes)] for rule in rules})
  spoilt: set[str] = set()
  arrays = {}
  for rule in rules:
    for part, path in enumerate(rule.ours):
      fill = _filler(rule, tensors, part=part, shapes=shapes, spoilt=spoilt)
      arrays[path] = jax.make_array_from_callback(tuple(shapes[path]), shardings[path], fill)
      arrays[path].block_until_ready()  # its host buffer is free before the next one is made
  if spoilt:
    raise UserError(
      "weights that are not finite:\n    " + "\n    ".join(sorted(spoilt)[:40]),
      where=getattr(tensors, "path", "tensors"),
      rule="every weight is a number",
      remedy="copy the file again, or take an earlier checkpoint of the training that wrote it",
    )
  return arrays


def export_stream(rules: Sequence[Rule], leaves: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the name and the values of each of their tensors, one at a time, from our leaves, sharded or not."""
  shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
  tensor_shapes(rules, shapes=shapes)  # tells what does not fit before the first is written
  for rule in rules:
    for index in rule.indices(shapes):
      moved = [rule.to_theirs(np.asarray(leaves[path][index] if index else leaves[path])) for path in rule.ours]
      yield rule.name(index), np.ascontiguousarray(np.concatenate(moved) if len(moved) > 1 else moved[0])


def write_folder(
  folder: Path, tensors: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int = SHARD_BYTES
) -> dict[str, str]:
  """Writes shards and their index, and returns tensor -> shard; at most one shard is in memory.

  Nothing is visible under its final name before all of it is written; older weights in the folder are then replaced.
  A model of one shard is one file without an index, as transformers writes it.
  """
  folder.mkdir(parents=True, exist_ok=True)
  partial: list[tuple[Path, dict[str, int]]] = []
  try:
    for number, shard in enumerate(_shards(tensors, shard_bytes)):
      path = folder / f"shard-{number:05d}.partial"
      partial.append((path, {name: tensor.nbytes for name, tensor in shard.items()}))
      _save(path, shard)
      shard.clear()
  except BaseException:
    for path, _ in partial:
      path.unlink(missing_ok=True)
    raise
  for old in [*folder.glob("model-*-of-*.safetensors"), folder / SINGLE, folder / INDEX]:
    old.unlink(missing_ok=True)
  count = len(partial)
  names = [SINGLE] if count == 1 else [f"model-{k + 1:05d}-of-{count:05d}.safetensors" for k in range(count)]
  placed = {tensor: name for name, (_, held) in zip(names, partial, strict=True) for tensor in held}
  for name, (path, _) in zip(names, partial, strict=True):
    path.replace(folder / name)
  if count > 1:
    total = sum(size for _, held in partial for size in held.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))})
  return placed


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


def _filler(
  rule: Rule,
  tensors: Mapping[str, np.ndarray],
  *,
  part: int,
  shapes: Mapping[str, tuple[int, ...]],
  spoilt: set[str],
) -> Callable[[tuple[slice, ...] | None], np.ndarray]:
  """Returns the function that makes one device's part of a leaf from the slices that it covers."""
  shape = shapes[rule.ours[part]]
  leading = rule.num_leading
  rows = [rule.rows(path, shapes) for path in rule.ours]

  def read(index: Index) -> np.ndarray:
    tensor = tensors[rule.name(index)]
    if not finite(tensor):
      spoilt.add(rule.name(index))
    piece = tensor if len(rows) == 1 else tensor[sum(rows[:part]) : sum(rows[: part + 1])]
    return rule.to_ours(piece)

  def fill(where: tuple[slice, ...] | None) -> np.ndarray:
    bounds = [range(size)[one] for size, one in zip(shape, where or (slice(None),) * len(shape), strict=True)]
    inner = tuple(slice(one.start, one.stop) for one in bounds[leading:])
    if not leading:
      return np.ascontiguousarray(read(())[inner])
    indices = list(itertools.product(*bounds[:leading]))
    first = read(indices[0])[inner]
    out = np.empty((len(indices), *first.shape), first.dtype)
    out[0] = first
    for place, index in enumerate(indices[1:], start=1):
      out[place] = read(index)[inner]
    return out.reshape([len(one) for one in bounds])

  return fill


def _check_dtypes(dtypes: Mapping[str, Sequence[np.dtype]]) -> None:
  mixed = [
    f"{name}: {', '.join(sorted({str(d) for d in found}))}" for name, found in dtypes.items() if len(set(found)) > 1
  ]
  if mixed:
    raise UserError(
      "layers of several dtypes:\n    " + "\n    ".join(mixed[:40]),
      where="dtypes of the tensors",
      rule="the layers of a stack share a dtype",
      remedy="write the model again in one dtype",
    )


def finite(tensor: np.ndarray) -> bool:
  """Returns whether no value is infinite or no number; by bits, since half precisions are slow to compare."""
  mask = _EXPONENTS.get(tensor.dtype.itemsize, {}).get(tensor.dtype.name)
  if mask is None:
    return tensor.dtype.kind in "iub" or bool(np.isfinite(tensor).all())
  bits = np.ascontiguousarray(tensor).view(np.dtype(f"u{tensor.dtype.itemsize}"))
  return not bool(((bits & mask) == mask).any())


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
