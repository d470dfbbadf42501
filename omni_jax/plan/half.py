"""The first half of a compile: optimised, scheduled and laid out in memory, but not written as machine code.

The second half takes most of the time and tells cycles only. A compile cannot be stopped, so it runs in a process of
its own, which is ended when its dump says how memory is laid out.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import jax

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology
from omni_jax.plan.memory import read_memory
from omni_jax.plan.program import Executable, compile_lowered, find_devices, temporaries_of, trace_step
from omni_jax.train.loop import Run

_POLL_SECONDS = 0.5
_LAST = "*after_optimizations_after_buffer_assignment.txt"  # of the files of the first half
_TEXT = "*.after_optimizations.txt"


def compile_half(run: Run, topology: Topology, *, options: Mapping[str, str], arguments: int) -> Executable:
  """Returns what is known of a step after the first half; `peak` is a bound from above, as if all were needed at once.

  Args:
    run: whose step.
    topology: the machine.
    options: of the compiler.
    arguments: bytes of state and batch on one device.

  Raises:
    TooLarge: it does not fit into the memory of a device.
    UserError: the process was killed, or its dump does not say how memory is laid out.
  """
  spawned = multiprocessing.get_context("spawn")
  receiver, sender = spawned.Pipe(duplex=False)
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
    folder = Path(name)
    child = spawned.Process(target=_compile, args=(run, topology, dict(options), folder, sender), daemon=True)
    child.start()
    sender.close()
    try:
      while child.is_alive() and not list(folder.glob(_LAST)):
        time.sleep(_POLL_SECONDS)
      if not child.is_alive():
        _raise_of(child, receiver, run=run)
      return _read(folder, arguments=arguments, run=run)
    finally:
      child.kill()
      child.join()


def _raise_of(child: SpawnProcess, receiver: Any, *, run: Run) -> None:
  """Raises what a compile that has ended met, if it did."""
  try:
    error = receiver.recv()
  except EOFError:  # it said nothing
    child.join()
    raise UserError(
      f"the process that compiles ended with status {child.exitcode}",
      where=f"plan of {run.name!r}",
      rule="it ends by itself or when memory is laid out; -9 is what the kernel does where the host has no memory left",
      remedy="see what it said above; compile where more memory is free",
    ) from None
  if error is not None:
    raise error


def _compile(run: Run, topology: Topology, options: dict[str, str], folder: Path, sender: Connection) -> None:
  jax.config.update("jax_platforms", "cpu")
  try:
    compile_lowered(trace_step(run, find_devices(topology)), options=options, folder=folder)
    sender.send(None)
  except Exception as error:
    sender.send(error)


def _read(folder: Path, *, arguments: int, run: Run) -> Executable:
  """Returns what the dump says."""
  text = max((path.read_text() for path in folder.glob(_TEXT)), key=len, default=None)
  if text is None:
    raise UserError(
      f"no {_TEXT} in the compiler's dump",
      where=f"plan of {run.name!r}",
      rule="half of a compile is read from the dump of the compiler for TPUs, as libtpu's up to 0.0.52 is",
      remedy="plan without --quick, or with that libtpu",
    )
  temporaries = temporaries_of(folder)
  return Executable(
    text=text,
    arguments=arguments,
    temporaries=temporaries,
    peak=arguments + temporaries,
    host=0,
    memory=read_memory(folder),
  )
