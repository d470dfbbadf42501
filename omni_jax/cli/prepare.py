"""Read a public corpus into a checked record set, WORKDIR/corpus/NAME; killed, it goes on where it was.

With --config, all sets of a published mixture: omni prepare --config configs/emova/collections.py:alignment --data DIR.
What cannot be used is put aside with its reason in quarantine-SPLIT.jsonl, and stops the work above a share.
`--steps` does more to the records: speaks text dialogues, draws text to be read, has captions written by an assistant.
`--phones emova` also writes the phones of what is spoken, for the training of a speech tokenizer.
"""

import argparse
from pathlib import Path

from omni_jax.build.collection import Collection, collect
from omni_jax.cli import sources
from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError

EXAMPLE = (
  "omni prepare --source librispeech:/data/LibriSpeech/train-clean-100 --name librispeech --phones emova "
  "--workdir runs/full"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni prepare`."""
  sources.add_arguments(parser)
  parser.add_argument("--config", metavar="FILE.py:FUNCTION", help="a published mixture, instead of --source")
  parser.add_argument("--data", type=Path, metavar="DIR", help="where that mixture lies")


def run(arguments: argparse.Namespace) -> None:
  """Prepares."""
  if arguments.config:
    _collect(arguments)
    return
  preparation = sources.preparation_of(arguments)
  folder = arguments.workdir / "corpus" / arguments.name
  sources.make(preparation, arguments, folder, run=sources.run_with(arguments, workers=sources.all_cpus()))


def _collect(arguments: argparse.Namespace) -> None:
  of_one = arguments.source or arguments.steps or arguments.phones != sources.NO_PHONES
  if of_one or not arguments.data:
    raise UserError(
      "--config with --source, --steps or --phones, or without --data",
      where="command line",
      rule="a mixture is read from the folder --data, and says itself what is done to its sets",
      remedy="give --config FILE.py:FUNCTION --data DIR",
    )
  collection = load_config(
    arguments.config, returns=Collection, arguments=(arguments.data.resolve(),), settings=arguments.set
  )
  collect(collection, arguments.workdir, run=sources.run_with(arguments, workers=sources.all_cpus()))
