"""A vocoder as one file for JAX on any device, `STEM.stablehlo`: an archive (zip, nothing compressed) of

    card.json               the metadata, as in ONNX files
    units, sound            programs of `jax.export` for cpu, cuda and tpu; batch, units and frames may be any number
    weights.npz             parameters by dotted path

Weights are arguments, stored once for all programs. The sound program takes `valid` [B, T] too, 1 on frames and 0 on
what fills up shorter rows, and gives what every row alone would give. What reads it needs jax, numpy and flatbuffers,
none of our code:

    archive = zipfile.ZipFile("voice.stablehlo")
    weights = dict(numpy.load(io.BytesIO(archive.read("weights.npz"))))
    sound = jax.export.deserialize(bytearray(archive.read("sound")))
    samples = sound.call(weights, {"latents": ..., "condition": ..., "valid": ...})["waveform"]

The archive is read again and compared with JAX before it is put in its place.
"""

import importlib.metadata
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_together
from omni_jax.export.onnx_files import ExportReport
from omni_jax.export.programs import SOUND, Arrays, Port, Program, distances, in_jax, refuse_unless_equal

PLATFORMS = ("cpu", "cuda", "tpu")
_CARD, _WEIGHTS = "card.json", "weights.npz"
_WRITERS = ("omni_jax", "jax", "jaxlib")


class StableVocoder(NamedTuple):
  """An archive that was read: its metadata, and its programs by name, inputs -> outputs."""

  card: dict[str, Any]
  programs: dict[str, Callable[[Arrays], Arrays]]


def publish_stablehlo(model: Any, programs: Sequence[Program], stem: Path, *, facts: Mapping[str, Any]) -> ExportReport:
  """Writes a vocoder, once every program of the archive gives what JAX gives.

  Raises:
    UserError: a program whose lengths depend on values, one that differs, or a full disk; nothing is written then.
  """
  path = stem.with_name(stem.name + ".stablehlo")
  for program in programs:
    if program.function is None:
      raise UserError(
        f"a {type(model).__name__}",
        where=path,
        rule="shapes of a program of JAX follow from those of its inputs; here durations decide them",
        remedy="write it with --format onnx",
      )
  card = dict(facts) | {
    "parts": [program.suffix for program in programs],
    "platforms": PLATFORMS,
    "written by": {name: importlib.metadata.version(name) for name in _WRITERS},
  }
  exported = {_name(program): _export(model, program) for program in programs}
  weights = {name: np.asarray(leaf) for name, leaf in trees.flatten(model).items()}
  read = _read(_archive(card, exported, weights), where=path)
  found: dict[str, float] = {}
  for program in programs:
    padded = program._replace(cases=[_padded(program, case) for case in program.cases])
    found |= distances(padded, padded.expected(model), read.programs[_name(program)])
    refuse_unless_equal(found, tolerance=program.tolerance, where=path)
  tolerance = max(program.tolerance for program in programs)
  parity = {"relative difference from JAX": found, "tolerance": tolerance}
  data = _archive(card | {"parity": parity}, exported, weights)
  write_together({path: data})
  return ExportReport((path,), len(data), found)


def read_stablehlo(path: Path) -> StableVocoder:
  """Returns the vocoder of an archive.

  Raises:
    UserError: the file is missing, damaged, or no such archive.
  """
  try:
    return _read(path.read_bytes(), where=path)
  except OSError as error:
    raise _unreadable(error, path) from error


def _name(program: Program) -> str:
  return program.suffix.removeprefix(".")


def _inputs(program: Program) -> dict[str, Port]:
  """Returns the inputs in JAX, which masks what an ONNX graph takes as unpadded."""
  letters = next(iter(program.inputs.values())).sizes[:2]
  return dict(program.inputs) | ({"valid": Port("float32", letters)} if program.suffix == SOUND else {})


def _padded(program: Program, case: Arrays) -> Arrays:
  """Returns a case with the mask where the program takes one; all rows but the first end a frame early."""
  if program.suffix != SOUND:
    return case
  rows, length = next(iter(case.values())).shape[:2]
  valid = np.ones((rows, length), np.float32)
  valid[1:, max(length - 1, 1) :] = 0
  return {**case, "valid": valid}


def _export(model: Any, program: Program) -> bytes:
  """Returns a program of weights by path and inputs by name, every size that is a letter left open."""
  abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), model)
  function = program.function
  assert function is not None, "only programs with a function are exported"

  def run(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    return function(trees.unflatten(abstract, weights), inputs)

  scope = jax.export.SymbolicScope()
  inputs = {}
  for name, port in _inputs(program).items():
    sizes = jax.export.symbolic_shape(", ".join(map(str, port.sizes)), scope=scope)
    inputs[name] = jax.ShapeDtypeStruct(sizes, np.int32 if port.dtype == "int64" else np.dtype(port.dtype))
  exported = jax.export.export(jax.jit(run), platforms=PLATFORMS)(trees.flatten(abstract), inputs)
  return bytes(exported.serialize())


def _archive(card: Mapping[str, Any], exported: Mapping[str, bytes], weights: Mapping[str, np.ndarray]) -> bytes:
  data, held = io.BytesIO(), io.BytesIO()
  np.savez(held, **weights)  # pyright: ignore[reportArgumentType]
  with zipfile.ZipFile(data, "w") as archive:
    for name, content in {_CARD: json.dumps(card).encode(), **exported, _WEIGHTS: held.getvalue()}.items():
      archive.writestr(zipfile.ZipInfo(name), content)
  return data.getvalue()


def _read(data: bytes, *, where: Path) -> StableVocoder:
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      card = json.loads(archive.read(_CARD))
      weights = dict(np.load(io.BytesIO(archive.read(_WEIGHTS)), allow_pickle=False))
      names = [part.removeprefix(".") for part in card["parts"]]
      exported = {name: jax.export.deserialize(bytearray(archive.read(name))) for name in names}
  except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
    raise _unreadable(error, where) from error
  weights = {name: jax.numpy.asarray(leaf) for name, leaf in weights.items()}

  def runner(program: Any) -> Callable[[Arrays], Arrays]:
    run = jax.jit(program.call)
    return lambda inputs: jax.tree.map(np.asarray, run(weights, in_jax(inputs)))

  return StableVocoder(card, {name: runner(program) for name, program in exported.items()})


def _unreadable(error: Exception, where: Path) -> UserError:
  return UserError(
    f"cannot read the vocoder ({type(error).__name__}: {str(error)[:200]})",
    where=where,
    rule="a whole archive as `omni export vocoder --format stablehlo` writes it",
    remedy="copy the file again",
  )
