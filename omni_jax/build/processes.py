"""Work in processes of this machine; jobs of `build/driver.py` are run in them unless it is told otherwise."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from omni_jax.core.errors import UserError


@contextlib.contextmanager
def processes(workers: int, *, start: Callable[[], Any] | None = None) -> Iterator[concurrent.futures.Executor]:
  """Yields an executor of so many new processes, each of which calls `start` first; what waits at the end is dropped.

  Raises:
    UserError: one of them died.
  """
  # Fresh processes: forking would copy the threads of JAX and of a running espeak-ng.
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=start)
  try:
    yield pool
  except concurrent.futures.process.BrokenProcessPool as error:
    raise UserError(
      "a working process died",
      where=f"{workers} processes",
      rule="each process has the memory it needs",
      remedy="run the command again with fewer --workers; what is finished is kept",
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


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
  with processes(min(workers, len(jobs)), start=start) as pool:
    numbers = {pool.submit(work, job): job.number for job in jobs}
    for future in concurrent.futures.as_completed(numbers):
      future.result()
      yield numbers[future]


HERE = run_in_processes(1)
