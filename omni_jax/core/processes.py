"""Several processes as one job: how each finds the others."""

import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.stages import Wrapped

from omni_jax.core.errors import UserError

try:
  from jax._src import distributed  # keeps the client of JAX's coordination service, which has no public name
except ImportError:  # another JAX; a process on its own needs none
  distributed = None

# Seconds that the first process waits for the last: machines of a large job do not start together.
_START_SECONDS = 1800
# Seconds that processes wait for each other where they may differ by minutes: compilation, reading a checkpoint.
_MEETING_SECONDS = 3600
_meetings = itertools.count()
# How collectives (gloo on CPUs, NCCL, the network of a pod) and JAX's coordination service tell that a peer is gone.
_LOSS = (
  "gloo",
  "nccl",
  "connection closed by peer",
  "connection reset by peer",
  "socket closed",
  "heartbeat",
  "coordination service",
  "barrier timed out",
  "unavailable:",
  "deadline_exceeded",
)


class MissingProcesses(UserError):
  """A job that is not whole: started again, perhaps on other machines, it may be."""


def join(environment: Mapping[str, str] = os.environ) -> None:
  """Joins this process to its job before JAX is used; a process on its own joins nothing.

  Three variables name a job on any machine: JAX_COORDINATOR_ADDRESS (host:port of the first process),
  JAX_NUM_PROCESSES, JAX_PROCESS_ID. Without them JAX asks the machine: TPU metadata, GKE, Slurm.

  Raises:
    UserError: variables are missing or wrong.
    MissingProcesses: the others did not come.
  """
  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  given = [name for name in names if name in environment]
  if given and len(given) < len(names):
    raise _wrong(f"only {', '.join(given)}", f"{', '.join(names)} are set together")
  if given:
    address, count, number = (environment[name] for name in names)
    if not (count.isdecimal() and number.isdecimal() and int(number) < int(count)):
      raise _wrong(f"process {number} of {count}", "JAX_PROCESS_ID is a number below JAX_NUM_PROCESSES")
    if int(count) == 1:
      return
    options = {"coordinator_address": address, "num_processes": int(count), "process_id": int(number)}
  elif int(environment.get("SLURM_NTASKS", "1")) > 1 or _on_a_pod(environment):
    options = {}
  else:
    return
  try:
    jax.distributed.initialize(**options, initialization_timeout=_START_SECONDS)
  except ValueError as error:
    raise _wrong(str(error), "the machine or the three variables say which processes there are") from error
  except RuntimeError as error:
    raise MissingProcesses(
      str(error),
      where="processes of this job",
      rule=f"all of them start within {_START_SECONDS // 60} minutes",
      remedy="start it on every host; check that hosts reach each other's port 8482",
    ) from error


def meet(place: str) -> None:
  """Returns when every process of the job is here; one on its own goes on at once.

  A collective waits for the others too, but not for long: gloo gives up after 30 s. This asks the coordination service.
  Processes have to come to the same places in the same order, in one thread.

  Raises:
    UserError: this JAX keeps its coordination service elsewhere.
    JaxRuntimeError: they do not come within an hour, or one of them is gone: `is_loss` knows it.
  """
  if jax.process_count() == 1:
    return
  name = f"omni/{place}/{next(_meetings)}"
  client: Any = getattr(getattr(distributed, "global_state", None), "client", None)
  if not hasattr(client, "wait_at_barrier"):
    raise UserError(
      f"JAX {jax.__version__} has no jax._src.distributed.global_state.client that waits at a barrier",
      where=f"{jax.process_count()} processes that meet: {place}",
      rule="processes join by the coordination service of JAX, which is where JAX 0.10.2 keeps it",
      remedy="pip install jax==0.10.2 on every host, or train in one process",
    )
  client.wait_at_barrier(name, _MEETING_SECONDS * 1000)


def together(step: Wrapped) -> Callable[[Any, Mapping[str, jax.Array]], Any]:
  """Returns `step(state, batch)` which every process begins at the same time, however long each took to compile it."""
  if jax.process_count() == 1:
    return step
  known = set()

  def call(state: Any, batch: Mapping[str, jax.Array]) -> Any:
    shapes = tuple((name, array.shape) for name, array in sorted(batch.items()))
    if shapes not in known:
      step.lower(state, batch).compile()  # the call below finds it compiled
      meet("compiled")
      known.add(shapes)
    return step(state, batch)

  return call


def is_loss(error: Exception) -> bool:
  """Whether JAX failed because another process of the job is gone: what a launcher starts again, not a fault."""
  return jax.process_count() > 1 and any(sign in str(error).lower() for sign in _LOSS)


def _on_a_pod(environment: Mapping[str, str]) -> bool:
  """Whether this host is one of several with TPUs: GKE and virtual machines name them; JAX_PLATFORMS asks for them."""
  several = "," in environment.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in environment
  return several or environment.get("JAX_PLATFORMS", "").startswith("tpu")


def _wrong(what: str, rule: str) -> UserError:
  return UserError(
    what,
    where="processes of this job",
    rule=rule,
    remedy="start them by omni pod, or set the variables of each; check that hosts reach each other's port 8482",
  )
