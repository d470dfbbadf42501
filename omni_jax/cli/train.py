"""Train one stage to its end; the same command goes on where it was stopped, and returns at once when it is done.

A config is a Python function of the working folder that returns a `Run`. Results go to WORKDIR/stages/<name>:
checkpoints, metrics.jsonl, TensorBoard events. SIGTERM or Ctrl-C saves the step first; of several processes it is
enough that one is told. Where another process is lost, this one ends with status 42: `omni pod` starts all again.
"""

import argparse
import os
import sys
from pathlib import Path

import jax

from omni_jax.cli.configs import load_config
from omni_jax.core import processes
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.pods.job import RETRY_STATUS
from omni_jax.train.loop import Run, train

EXAMPLE = "omni train --config configs/emova/align.py:tiny --workdir runs/tiny --set steps=100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni train`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="what to train")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )
  parser.add_argument("--mesh", metavar="AXIS=SIZE,...", help="how devices are used, for example fsdp=4,tensor=2")
  parser.add_argument("--executable", type=Path, metavar="FILE", help="the compiled step, from omni plan --executable")
  parser.add_argument("--overwrite", action="store_true", help="delete what another run left in the stage folder")
  parser.add_argument(
    "--find-nan", action="store_true", help="name operation, lines and layer where a loss that is not finite comes from"
  )
  parser.add_argument(
    "--peak-teraflops",
    type=_peak,
    metavar="NUMBER",
    help="of one device in bfloat16, to log MFU where it is not known",
  )
  parser.add_argument("--wandb", metavar="PROJECT", help="tell Weights & Biases too (pip install 'omni_jax[wandb]')")


def run(arguments: argparse.Namespace) -> None:
  """Trains."""
  try:
    processes.join()
  except processes.MissingProcesses as error:
    print(f"omni train: {error}", file=sys.stderr)
    sys.exit(RETRY_STATUS)
  enable_compilation_cache()
  settings = [*arguments.set, *([f"mesh={arguments.mesh}"] if arguments.mesh is not None else [])]
  chosen = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,), settings=settings)
  try:
    how = {name: getattr(arguments, name) for name in ("overwrite", "executable", "find_nan", "wandb")}
    how["teraflops"] = arguments.peak_teraflops
    stage = train(chosen, arguments.workdir, **how)
  except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX raises either for a collective that fails
    if not processes.is_loss(error):
      raise
    print(f"omni train: another process is gone ({str(error)[:300]})", file=sys.stderr, flush=True)
    # Leaving in order would wait for it.
    os._exit(RETRY_STATUS)
  print(stage)


def _peak(text: str) -> float:
  """Returns a number above zero."""
  number = float(text)
  if not 0 < number < float("inf"):
    raise argparse.ArgumentTypeError(f"{text}: the peak of a device is a number above 0")
  return number
