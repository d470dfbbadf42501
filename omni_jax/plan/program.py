"""The real step of a run, compiled for devices that need not be there.

The compiler for TPUs (`libtpu`) runs on any machine: given a topology it makes the program that each device of it would
run. So what a step needs is measured before a machine is rented: memory, operations, what travels.
"""

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from omni_jax.core import sharding
from omni_jax.core.compilation_cache import compiling_afresh
from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology
from omni_jax.plan.memory import Memory, read_memory
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.executable import save_step
from omni_jax.train.learner import make_learner
from omni_jax.train.loop import Run, check_rows
from omni_jax.train.state import State

# How the compiler for TPUs says what a program needs and what there is, by where it finds out.
_NEEDED = re.compile(r"(?:[Uu]sed |temporaries \()([\d.]+\w)\)? (?:of|exceeds available HBM) \(?([\d.]+\w)")


class TooLarge(UserError):
  """A step that does not fit into the memory of a device: another use of the machine may."""


def find_devices(topology: Topology) -> list[Any]:
  """Returns the devices of a topology, described by the compiler for TPUs; no accelerator is looked for.

  Raises:
    UserError: libtpu is not installed, or does not know the topology.
  """
  # Without these, libtpu asks a cloud's metadata server who it is, and refuses to be loaded by two processes.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  config = topology.generation.chip_config
  # Taken for a mesh without ends that meet, a whole cube would gather by sums of padded arrays, at twice the traffic.
  extra: dict[str, Any] = {"wrap": (*topology.wraps, False)[:3]}
  if config:
    extra["chip_config_name"] = config
  if topology.slices > 1:
    extra["num_slices"] = topology.slices
  if topology.hosts_per_slice == 1:
    extra["chips_per_host_bounds"] = (*topology.shape, 1)[:3]
  try:
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology.compiler_name, **extra)
  except Exception as error:
    raise UserError(
      f"no description of {topology.name}: {str(error)[:300]}",
      where="plan",
      rule="the compiler for TPUs, libtpu, is installed (any machine will do) and knows the topology",
      remedy="pip install 'omni_jax[tpu]', or pip install libtpu",
    ) from error
  assert len(described.devices) == topology.devices, f"{len(described.devices)} devices of {topology.name}"
  return described.devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """A step that is ready to compile.

  Attributes:
    run: whose step.
    mesh: of the devices.
    state: as shapes with shardings.
    batch: likewise.
    lowered: the step.
  """

  run: Run
  mesh: jax.sharding.Mesh
  state: State
  batch: dict[str, jax.ShapeDtypeStruct]
  lowered: Any


def trace_step(run: Run, devices: Sequence[Any]) -> Program:
  """Returns the step of a run on these devices, traced.

  Raises:
    UserError: the mesh does not divide devices, model or batch, or the run's data does not say its shapes.
  """
  mesh = sharding.make_mesh(run.mesh, devices=devices)
  _check_loss(run)
  learner, rows = make_learner(run, mesh), sharding.batch_sharding(mesh)
  batch = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows) for name, leaf in batch_shapes(run).items()
  }
  check_rows({name: leaf.shape for name, leaf in batch.items()}, mesh, parts=run.step.accumulate)
  with jax.set_mesh(mesh):
    lowered = learner.step.lower(learner.abstract, batch)
  return Program(run=run, mesh=mesh, state=learner.abstract, batch=batch, lowered=lowered)


def _check_loss(run: Run) -> None:
  """Raises a UserError for the run of a vocoder and its critics."""
  if isinstance(run.loss, Adversarial):
    raise UserError(
      "a vocoder and its critics", where=f"run {run.name!r}", rule="a plan is of one model with one loss",
      remedy="plan a stage of the language model",
    )  # fmt: skip


def batch_shapes(run: Run) -> Mapping[str, jax.ShapeDtypeStruct]:
  """Returns the arrays of a batch as shapes.

  Raises:
    UserError: the data of this run does not say them.
  """
  if not hasattr(run.data, "shapes"):
    raise UserError(
      f"{type(run.data).__name__} does not say the shapes of its batches",
      where=f"run {run.name!r}, data",
      rule="a plan needs data with shapes(): the stages of a language model have it",
      remedy="plan another stage",
    )
  return run.data.shapes()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Executable:
  """What a device would run.

  Attributes:
    text: the program as the compiler scheduled it.
    arguments: bytes of state and batch on one device.
    temporaries: bytes of everything in between.
    peak: bytes at once.
    host: bytes in the host's memory.
    memory: what is alive when, None if the compiler did not say.
  """

  text: str
  arguments: int
  temporaries: int
  peak: int
  host: int
  memory: Memory | None


def compile_program(program: Program, *, options: Mapping[str, str], keep: Path | None = None) -> Executable:
  """Returns the compiled step.

  Args:
    program: from `trace_step`.
    options: of the compiler, as a launch would give them.
    keep: a file for what was compiled, to be run elsewhere (`train.executable`).

  Raises:
    TooLarge: it does not fit into the memory of a device; the message says how much it needs.
  """
  with tempfile.TemporaryDirectory() as folder:
    compiled = compile_lowered(program, options=options, folder=Path(folder))
    text = compiled_text(Path(folder)) or compiled.as_text()
    over_time = read_memory(Path(folder))
  if keep is not None:
    save_step(keep, compiled, run=program.run, mesh=program.mesh, batch=program.batch)
  memory = compiled.memory_analysis()
  return Executable(
    text=text,
    arguments=memory.argument_size_in_bytes,
    temporaries=memory.temp_size_in_bytes,
    peak=memory.peak_memory_in_bytes,
    host=memory.host_temp_size_in_bytes,
    memory=over_time,
  )


def compile_lowered(program: Program, *, options: Mapping[str, str], folder: Path) -> Any:
  """Returns what `Lowered.compile` does; a compiler for TPUs dumps its text into the folder.

  Some programs cannot be printed from the executable (asynchronous calls on v5p and later).

  Raises:
    TooLarge: it does not fit into the memory of a device.
  """
  dump = {"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True, "xla_dump_hlo_module_re": ".*step.*"}
  with memory_errors(program), compiling_afresh():
    return program.lowered.compile(compiler_options={**options, **dump})


def compiled_text(folder: Path) -> str:
  """Returns the last text that a compiler for TPUs dumped of a step, with the cycles it expects; empty if none."""
  texts = sorted(folder.glob("*after_codegen.txt"), key=lambda path: path.stat().st_size)
  return texts[-1].read_text() if texts else ""


def temporaries_of(folder: Path) -> int:
  """Returns the bytes of temporaries that a compiler for TPUs laid out in a device's own memory, read from its dump.

  Other memories are told by a color. The figure is that of `memory_analysis` of the finished program.
  """
  texts = (path.read_text() for path in folder.glob("*-buffer-assignment.txt"))
  sizes = [re.findall(r"^allocation \d+: size (\d+), page 0, preallocated-temp:", text, re.MULTILINE) for text in texts]
  return max((int(size) for found in sizes for size in found), default=0)


@contextlib.contextmanager
def memory_errors(program: Program) -> Iterator[None]:
  """Raises TooLarge where the compiler says that a program does not fit; the message says how much it needs."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    used = _NEEDED.search(str(error))
    if "RESOURCE_EXHAUSTED" not in str(error) or used is None:
      raise
    raise TooLarge(
      f"a step needs {used[1]} of memory on each device, which has {used[2]}",
      where=f"plan of {program.run.name!r} on {dict(program.mesh.shape)}",
      rule="parameters, moments, gradients and activations fit into the memory of a device",
      remedy="more fsdp or tensor, step.compute_dtype=bfloat16, step.accumulate, remat=full, fewer rows, or more chips",
    ) from error
