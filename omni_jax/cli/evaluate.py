"""Score the assistant offline on a CPU: every figure beside chance, majority and cascade, with a 95 % interval.

Writes evaluation/results.json, one JSON line for each sample, and the first sounds and images of each task; those of
other systems than EMOVA in a folder of their own. Tasks that are up to date are not run again; those that ask for what
a system cannot do are left out with the reason. Synthesised speech is judged by pocketsphinx; without flite recordings
in the corpus that is 'not measurable'.
"""

import argparse
from pathlib import Path

from omni_jax.cli.configs import load_config, parse_settings
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.config import replace
from omni_jax.evaluate.run import TASKS, Evaluation, evaluate, limited
from omni_jax.evaluate.systems import SYSTEMS, system_kind
from omni_jax.evaluate.table import results_table

EXAMPLE = "omni evaluate --workdir runs/tiny --tasks recognition,images --limit 50"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the verb."""
  parser.add_argument("--config", default="", help="path/file.py:function of an Evaluation; the standard one if absent")
  parser.add_argument("--system", default="emova", metavar="NAME", help=f"one of {', '.join(SYSTEMS)}; now emova")
  parser.add_argument("--workdir", type=Path, required=True, help="folder of the run, with corpus and stages")
  parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field of the config")
  parser.add_argument("--tasks", default="", metavar="A,B", help=f"some of {', '.join(TASKS)}; all if absent")
  parser.add_argument("--limit", type=int, default=None, metavar="N", help="at most N samples of anything")
  parser.add_argument("--overwrite", action="store_true", help="run tasks again that are up to date")


def run(arguments: argparse.Namespace) -> None:
  """Evaluates and prints the table."""
  enable_compilation_cache()
  if arguments.config:
    settings = load_config(arguments.config, returns=Evaluation, settings=arguments.set)
  else:
    settings = replace(Evaluation(), parse_settings(arguments.set))
  tasks = [name for name in arguments.tasks.split(",") if name]
  settings = limited(settings, arguments.limit)
  system = {"system": arguments.system, "tasks": tasks, "overwrite": arguments.overwrite}
  results = evaluate(settings, arguments.workdir, **system)
  print(results_table(results))
  for task, reason in results["skipped"].items():
    print(f"{task}: left out, {reason}")
  print(f"wrote {system_kind(arguments.system).results(arguments.workdir) / 'results.json'}")
