"""A compiled step as a file, so that a launch on a pod begins without compiling.

One line of JSON says what the step was compiled from and for; what JAX's `serialize_executable` wrote follows. Every
fact of that line is compared before anything is loaded: what was compiled elsewhere must be this run, from this source,
by the compiler and for the devices that are here.

Loading is Python's unpickling: an executable is trusted like code. An executable for TPUs loads on such a pod only, so
that end is proven where there is one; everything else is the same path on a CPU.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable

from omni_jax.core import config
from omni_jax.core.arrays import Array
from omni_jax.core.errors import UserError
from omni_jax.core.files import source_hash, write_whole
from omni_jax.core.sharding import make_mesh
from omni_jax.train.learner import Learner

_FORMAT = 1
_COMPILED = ("model", "loss", "optimizer", "steps", "seed", "step")  # the fields of a run that are in its step
_AGAIN = "make it again by omni plan --executable, or train without it, which compiles"


def save_step(file: Path, compiled: Any, *, run: Any, mesh: Any, batch: Mapping[str, Any]) -> None:
  """Writes a compiled step, whole or not at all.

  Args:
    file: where to.
    compiled: from `Lowered.compile` of the run's step.
    run: a `loop.Run`.
    mesh: of the devices it was compiled for.
    batch: its arrays, or their shapes.

  Raises:
    UserError: the compiler's executables cannot be written.
  """
  try:
    payload, _, _ = serialize_executable.serialize(compiled)
  except (ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
    raise UserError(
      f"this executable cannot be written: {str(error)[:300]}",
      where=file,
      rule="the compiler writes what it compiled",
      remedy="launch without an executable: the compilation cache in the working folder serves from the second time on",
    ) from error
  facts = _facts(run, mesh) | {"batch": _described(batch), "payload": hashlib.sha256(payload).hexdigest()}
  write_whole(file, json.dumps(facts, sort_keys=True).encode() + b"\n" + payload)


def load_step(file: Path, *, run: Any, learner: Learner) -> Callable[[Any, dict[str, Array]], Any]:
  """Returns the step of a run from a file; it takes and returns what the learner's own does.

  Raises:
    UserError: there is no such file, it is damaged, or it was made of another run, source, mesh, machine or version;
      all that differs is told. The step itself raises one for a batch of other shapes.
  """
  facts, payload = _read(file)
  mesh = make_mesh(run.mesh)
  _compare(file, facts, _facts(run, mesh))
  shapes = facts["batch"]
  batch = {name: jax.ShapeDtypeStruct(tuple(shape), kind) for name, (shape, kind) in shapes.items()}
  tree = jax.tree.structure(((learner.abstract, batch), {}))
  with jax.set_mesh(mesh):
    results = jax.tree.structure(jax.eval_shape(learner.step, learner.abstract, batch))
  try:
    devices = list(mesh.devices.flat)
    loaded = serialize_executable.deserialize_and_load(payload, tree, results, devices[0].client, devices)
  except Exception as error:  # whatever a client, a compiler's runtime or pickle raises
    raise UserError(
      f"it does not load here: {str(error)[:300]}", where=file,
      rule="an executable loads on the machine it was compiled for", remedy=_AGAIN,
    ) from error  # fmt: skip

  def step(state: Any, batch: dict[str, Array]) -> Any:
    if _described(batch) != shapes:
      raise UserError(
        f"a batch of {_described(batch)}", where=file, rule=f"the step was compiled for {shapes}", remedy=_AGAIN
      )
    return loaded(state, batch)

  return step


def _facts(run: Any, mesh: Any) -> dict[str, Any]:
  """Returns what must be the same where a step is compiled and where it runs."""
  devices = list(mesh.devices.flat)
  versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
  if devices[0].platform == "tpu":
    versions["libtpu"] = importlib.metadata.version("libtpu")
  return {
    "format": _FORMAT,
    "config": config.fingerprint({name: getattr(run, name) for name in _COMPILED}),
    "source": f"{source_hash(Path(__file__).parents[1]):x}",
    "mesh": {name: size for name, size in mesh.shape.items() if size > 1},
    "device": f"{len(devices)} x {devices[0].device_kind}",
    **versions,
  }


def _described(batch: Mapping[str, Any]) -> dict[str, list[Any]]:
  return {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in sorted(batch.items())}


def _read(file: Path) -> tuple[dict[str, Any], bytes]:
  try:
    head, _, payload = file.read_bytes().partition(b"\n")
  except OSError as error:
    raise UserError(
      f"cannot read: {error.strerror or error}", where=file, rule="--executable names a file", remedy=_AGAIN
    ) from error
  try:
    facts = json.loads(head)
  except ValueError:  # no JSON, or no text
    facts = None
  if not isinstance(facts, dict) or facts.get("payload") != hashlib.sha256(payload).hexdigest():
    raise UserError(
      "no executable, or a damaged one", where=file, rule="its first line has the hash of the rest", remedy=_AGAIN
    )
  return facts, payload


def _compare(file: Path, facts: Mapping[str, Any], here: Mapping[str, Any]) -> None:
  odd = [f"{name} {facts.get(name)}, here {value}" for name, value in here.items() if facts.get(name) != value]
  if odd:
    raise UserError(
      "compiled of or for something else: " + "; ".join(odd), where=file,
      rule="run, source, mesh, devices and versions are those it was compiled with", remedy=_AGAIN,
    )  # fmt: skip
