"""The first half of a compile: optimised, scheduled and laid out in memory, but not written as machine code.

The second half takes most of the time and tells cycles only. A compile cannot be stopped, so it runs in a process of
its own, which is ended when its dump says how memory is laid out.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import jax

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
      if not child.is_alive() and receiver.poll() and (error := receiver.recv()) is not None:
        raise error
      return _read(folder, arguments=arguments)
    finally:
      child.kill()
      child.join()


def _compile(run: Run, topology: Topology, options: dict[str, str], folder: Path, sender: Connection) -> None:
  jax.config.update("jax_platforms", "cpu")
  try:
    compile_lowered(trace_step(run, find_devices(topology)), options=options, folder=folder)
    sender.send(None)
  except Exception as error:
    sender.send(error)


def _read(folder: Path, *, arguments: int) -> Executable:
  """Returns what the dump says."""
  text = max((path.read_text() for path in folder.glob(_TEXT)), key=len)
  temporaries = temporaries_of(folder)
  return Executable(
    text=text,
    arguments=arguments,
    temporaries=temporaries,
    peak=arguments + temporaries,
    host=0,
    memory=read_memory(folder),
  )
