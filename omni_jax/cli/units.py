"""Turn the speech of any corpus into units, styles and phones: WORKDIR/units/NAME; killed, it goes on where it was.

Needs a tokenizer stage in WORKDIR/stages (omni train, omni centres, omni convert import), and the stage of a style
encoder unless `--style none`. Each process loads both; on an accelerator leave --workers at 1.
"""

import argparse
import logging

from omni_jax.build.units import TOGETHER, Units
from omni_jax.cli import sources
from omni_jax.core.compilation_cache import enable_compilation_cache

EXAMPLE = "omni units --source folder:recordings --name recordings --workdir runs/tiny"
NO_STYLE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni units`."""
  sources.add_arguments(parser)
  parser.add_argument("--tokenizer", default="tokenizer", metavar="STAGE", help="of the speech tokenizer")
  parser.add_argument("--style", default="style", metavar="STAGE", help="of the style encoder, or none")
  parser.add_argument("--keep-audio", action="store_true", help="keep the sound beside its units")


def run(arguments: argparse.Namespace) -> None:
  """Encodes."""
  enable_compilation_cache()
  stages = arguments.workdir.resolve() / "stages"
  units = Units(
    tokenizer=stages / arguments.tokenizer,
    style=None if arguments.style == NO_STYLE else stages / arguments.style,
    keep_audio=arguments.keep_audio,
  )
  preparation = sources.preparation_of(arguments, steps=(units,), mark=units.mark, chunk=TOGETHER)
  folder = arguments.workdir / "units" / arguments.name
  sources.make(preparation, arguments, folder, run=sources.run_with(arguments, workers=1, start=start))


def start() -> None:
  """Sets a new process up as the command line is."""
  enable_compilation_cache()
  logging.getLogger("absl").setLevel(logging.ERROR)
