"""Jobs on a cluster by Apache Beam: the other runner of `build/driver.py`; the shards are the same bytes.

Beam carries only which jobs there are. Corpus, working folder and models lie in a file system that every worker sees at
the same path, and omni_jax is installed there. Apache Beam wants lower versions of protobuf and pyarrow than the rest:
give it an environment of its own (`pip install "omni_jax[beam,data]"`).
"""

import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

from omni_jax.core.errors import UserError


def run_on_beam(runner: str, *, flags: tuple[str, ...] = ()) -> Callable[..., Generator[int]]:
  """Returns a runner that hands all jobs to Beam and yields their numbers when they are done.

  Args:
    runner: Beam's name of it: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ...
    flags: Beam's own, such as --direct_num_workers=8 or --project=...

  Raises:
    UserError: Apache Beam is not installed.
  """
  try:
    import apache_beam  # noqa: F401  told before anything is listed
  except ImportError as error:
    raise UserError(
      "Apache Beam is not installed",
      where=f"--runner {runner}",
      rule="runners other than local are Beam's",
      remedy='pip install "omni_jax[beam,data]" into an environment of its own, or leave --runner out',
    ) from error
  return functools.partial(_run, runner=runner, flags=flags)


def _run(jobs: Sequence[Any], work: Callable[[Any], None], *, runner: str, flags: tuple[str, ...]) -> Generator[int]:
  import apache_beam as beam
  from apache_beam.options.pipeline_options import PipelineOptions

  if not jobs:
    return
  try:
    with beam.Pipeline(options=PipelineOptions(list(flags), runner=runner)) as pipeline:
      # Spread over the workers: without it some runners do all in the step that makes the list.
      _ = pipeline | "jobs" >> beam.Create(list(jobs)) | beam.Reshuffle() | "make" >> beam.Map(work)
  except Exception as error:  # each runner wraps what happened on a worker in types of its own
    raise UserError(
      f"the pipeline failed: {error}",
      where=f"--runner {runner}",
      rule="workers see the corpus and the working folder at the same paths, and have omni_jax installed",
      remedy="mend what the message says and run the command again; finished shards are kept",
    ) from error
  yield from (job.number for job in jobs)
