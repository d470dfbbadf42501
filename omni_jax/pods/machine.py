"""Several processes on one machine: the same job as on a pod, started again as a whole when one of them is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from omni_jax.core.errors import UserError
from omni_jax.pods.job import GRACE_SECONDS, RETRY_STATUS, Job, is_tried_again

_POLL_SECONDS = 0.1
# A process that waits for one that is gone does not end by itself: JAX notices after minutes.
_STUCK_SECONDS = 10


def launch(job: Job, *, processes: int, devices: int = 0, program: Sequence[str] = ()) -> int:
  """Runs a job to its end in so many processes, each with so many CPU devices, and returns how often it was restarted.

  SIGTERM and Ctrl-C go to every process, which save their step, and are waited for.

  Args:
    job: what to train.
    processes: to start.
    devices: CPU devices of each; 0: the devices that JAX finds.
    program: to start instead of `omni train`.

  Raises:
    UserError: a process ended with a fault of its own, or retries are used up.
    SystemExit: a signal came; every process has ended (status 143).
  """
  if processes < 1 or devices < 0:
    raise UserError(
      f"{processes} processes, {devices} devices", where="--processes, --devices",
      rule="at least one process; devices are 0 or more", remedy="change the value",
    )  # fmt: skip
  words = [*(program or (sys.executable, "-m", "omni_jax.cli.main", "train")), *job.train]
  for attempt in range(job.retries + 1):
    status = _run(words, processes=processes, devices=devices)
    if status == 0:
      return attempt
    if not is_tried_again(status):
      raise UserError(
        f"a process ended with status {status}", where=f"job {job.name!r}",
        rule=f"0 is done; {RETRY_STATUS} and lost processes are started again",
        remedy="read what it said above; the same command goes on from the last checkpoint",
      )  # fmt: skip
    print(f"{job.name}: a process was lost (status {status}), starting again", file=sys.stderr, flush=True)
  raise UserError(
    f"{job.retries + 1} attempts were lost", where=f"job {job.name!r}", rule="--retries says how often that may happen",
    remedy="see why processes are lost (memory?); the same command goes on from the last checkpoint",
  )  # fmt: skip


def _run(words: Sequence[str], *, processes: int, devices: int) -> int:
  """Returns 0, or the status of a process that ended with another, a lost one before others; none is left."""
  started = [
    subprocess.Popen(words, env=_environment(number, processes=processes, devices=devices, port=port))
    for port in [_free_port()]
    for number in range(processes)
  ]
  stopped = []
  earlier = {number: signal.signal(number, lambda number, _: stopped.append(number)) for number in _SIGNALS}
  try:
    statuses: list[int | None] = [None] * processes
    while any(status is None for status in statuses):
      if stopped:
        _end(started, patience=GRACE_SECONDS)
        break
      statuses = [process.poll() for process in started]
      ended = [128 - status if status < 0 else status for status in statuses if status]
      if ended:
        return next((status for status in ended if is_tried_again(status)), ended[0])
      time.sleep(_POLL_SECONDS)
    return 0
  finally:
    _end(started, patience=_STUCK_SECONDS)
    for number, handler in earlier.items():
      signal.signal(number, handler)
    if stopped:  # also one that came while what was left of a lost job was ended
      sys.exit(128 + signal.SIGTERM)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _environment(number: int, *, processes: int, devices: int, port: int) -> dict[str, str]:
  own = {
    "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
    "JAX_NUM_PROCESSES": str(processes),
    "JAX_PROCESS_ID": str(number),
  }
  if devices:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    own |= {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}
  return {**os.environ, **own}


def _end(started: Sequence[subprocess.Popen], *, patience: float) -> None:
  """Asks what still runs to end, and kills what has not after some seconds."""
  for process in started:
    if process.poll() is None:
      process.terminate()
  limit = time.monotonic() + patience
  for process in started:
    try:
      process.wait(max(limit - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]
