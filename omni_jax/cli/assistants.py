"""Which assistant answers, speaks or recognises: the flags of `omni chat`, `say` and `hear`, and what they name."""

import argparse
from pathlib import Path
from typing import Any

from omni_jax.generate.loading import STAGES, load_assistant, usual_stage
from omni_jax.generate.sampling import Sampling


def add_arguments(parser: argparse.ArgumentParser, **parts: str) -> None:
  """Declares the working folder, the stage of the language model, and stages of speech with what is said of them."""
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--stage",
    help=f"of the language model, which says which system it is; now the first there is of {', '.join(STAGES)}",
  )
  for name, said in parts.items():
    parser.add_argument(f"--{name}", metavar="STAGE", help=said)


def load(arguments: argparse.Namespace, *, sampling: Sampling | None = None) -> Any:
  """Returns the assistant that the flags name; parts that they do not name follow from the stage."""
  stage = arguments.stage or usual_stage(arguments.workdir)
  named = {name: getattr(arguments, name, None) for name in ("tokenizer", "vocoder")}
  parts = {name: part for name, part in named.items() if part}
  return load_assistant(arguments.workdir, stage=stage, sampling=sampling, **parts)
