"""Read a public corpus into a checked record set, WORKDIR/corpus/NAME; killed, it goes on where it was.

What cannot be used is put aside with its reason in quarantine-SPLIT.jsonl, and stops the work above a share.
`--phones emova` also writes the phones of what is spoken, for the training of a speech tokenizer.
"""

import argparse

from omni_jax.build.driver import Preparation
from omni_jax.build.phones import Phones, write_phones
from omni_jax.cli import sources

EXAMPLE = (
  "omni prepare --source librispeech:/data/LibriSpeech/train-clean-100 --name librispeech --phones emova "
  "--workdir runs/full"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni prepare`."""
  sources.add_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
  """Prepares."""
  steps = ()
  if arguments.phones != sources.NO_PHONES:
    write_phones(arguments.workdir / "corpus", arguments.phones)
    steps = (Phones(name=arguments.phones),)
  preparation = Preparation(
    corpus=sources.corpus_of(arguments.source, arguments.set),
    steps=steps,
    portion=arguments.portion,
    max_rejected=arguments.max_rejected,
    limit=arguments.limit,
  )
  sources.make(preparation, arguments, arguments.workdir / "corpus" / arguments.name, workers=sources.all_cpus())
