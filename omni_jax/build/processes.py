"""Jobs in processes of this machine: the ordinary runner of `build/driver.py`."""

import concurrent.futures
import functools
import multiprocessing
from collections.abc import Callable, Generator, Sequence
from typing import Any

from omni_jax.core.errors import UserError


def run_in_processes(workers: int, *, start: Callable[[], Any] | None = None) -> Callable[..., Generator[int]]:
  """Returns a runner that yields the number of each job that is done. A job's error ends the others.

  Args:
    workers: processes; 1 works in this one, so that a model is loaded once and sees its device.
    start: called first in every new process.
  """
  return functools.partial(_run, workers=workers, start=start)


def _run(
  jobs: Sequence[Any], work: Callable[[Any], None], *, workers: int, start: Callable[[], Any] | None
) -> Generator[int]:
  if workers <= 1 or len(jobs) <= 1:
    for job in jobs:
      work(job)
      yield job.number
    return
  # Fresh processes: forking would copy the threads of JAX and of a running espeak-ng.
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=start)
  try:
    numbers = {pool.submit(work, job): job.number for job in jobs}
    for future in concurrent.futures.as_completed(numbers):
      future.result()
      yield numbers[future]
  except concurrent.futures.process.BrokenProcessPool as error:
    raise UserError(
      "a working process died",
      where=f"{workers} processes",
      rule="each process has the memory it needs",
      remedy="run the command again with fewer --workers; finished shards are kept",
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


HERE = run_in_processes(1)
