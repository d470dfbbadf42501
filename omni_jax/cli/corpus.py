"""Make a labelled corpus on the spot: speech by text-to-speech engines, drawn images, text, spoken dialogue.

Everything is seeded. Finished splits are kept, so an interrupted run goes on and a second one returns at once.
"""

import argparse
from pathlib import Path

from omni_jax.build.corpus import AdditionConfig, CorpusConfig, make_corpus
from omni_jax.cli.configs import load_config

EXAMPLE = "omni corpus --config configs/emova/corpus.py:tiny --workdir runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni corpus`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="how much of everything")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )
  parser.add_argument("--workers", type=int, default=0, help="processes that speak (default: one for each CPU)")


def run(arguments: argparse.Namespace) -> None:
  """Makes the corpus."""
  config = load_config(arguments.config, returns=(CorpusConfig, AdditionConfig), settings=arguments.set)
  print(make_corpus(config, arguments.workdir / "corpus", workers=arguments.workers))
