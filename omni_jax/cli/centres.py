"""Train the centres of k-means on the speech of a corpus: labels for a HuBERT, or a tokenizer from its frames.

Writes a stage, WORKDIR/stages/<name>; stopped, the same command goes on where it was.
"""

import argparse
from pathlib import Path

from omni_jax.build.centres import CentresConfig, train_centres
from omni_jax.cli.configs import load_config
from omni_jax.core.compilation_cache import enable_compilation_cache

EXAMPLE = "omni centres --config configs/speechgpt/centres.py:cepstra_tiny --workdir runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni centres`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="which frames, and how many classes")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )


def run(arguments: argparse.Namespace) -> None:
  """Trains the centres."""
  enable_compilation_cache()
  config = load_config(arguments.config, returns=CentresConfig, settings=arguments.set)
  print(train_centres(config, arguments.workdir))
