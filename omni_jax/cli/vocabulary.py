"""Trains the text tokenizer on the corpus and lays out the ids of text, controls, speech units and styles.

Writes WORKDIR/text/tokenizer.model and WORKDIR/text/vocabulary.json; what is there already is kept.
"""

import argparse
from pathlib import Path

from omni_jax.build.vocabulary import VocabularyConfig, build_vocabulary
from omni_jax.cli.configs import load_config

EXAMPLE = "omni vocabulary --config configs/emova/vocabulary.py:tiny --workdir runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni vocabulary`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="how many rows")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )
  parser.add_argument("--overwrite", action="store_true", help="make it even if it is there")


def run(arguments: argparse.Namespace) -> None:
  """Makes the vocabulary."""
  config = load_config(arguments.config, returns=VocabularyConfig, settings=arguments.set)
  vocabulary = build_vocabulary(config, arguments.workdir, overwrite=arguments.overwrite)
  print(f"{arguments.workdir / 'text'}: {vocabulary.num_pieces} text pieces, {vocabulary.size} ids in all")
