"""Turn the speech of a corpus into units and heard styles, in WORKDIR/units; finished splits are left as they are.

Needs the stages `tokenizer` and `style` (omni train), or those named: any speech tokenizer with one unit a frame, such
as the k-means of `omni centres`, and `--style none` where styles need not be heard. The sound is kept in test splits
only. In training splits the units of the answering voices are timed to 10 ms, for the vocoder.

With --codec, the codes of that stage instead, in WORKDIR/codes, where the sound stays: what Mini-Omni reads. A SNAC
has rows of its own; a tokenizer with a finite scalar quantiser gives a row for each digit of its reduced units.
"""

import argparse
from pathlib import Path

from omni_jax.build.codes import code_corpus
from omni_jax.build.units import EncodeConfig, encode_corpus
from omni_jax.cli.units import NO_STYLE
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.prepare.voices.catalogue import cast

EXAMPLE = "omni encode --workdir runs/tiny"
SPOKEN_SETS = ("speech", "dialogue", "spoken_images")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni encode`."""
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--sets", nargs="+", default=SPOKEN_SETS, metavar="SET", help=f"of the corpus; now {' '.join(SPOKEN_SETS)}"
  )
  parser.add_argument("--tokenizer", default="tokenizer", metavar="STAGE", help="of the speech tokenizer")
  parser.add_argument("--style", default="style", metavar="STAGE", help="of the style encoder, or none")
  parser.add_argument("--codec", metavar="STAGE", help="of a codec: codes instead of units")


def run(arguments: argparse.Namespace) -> None:
  """Encodes."""
  enable_compilation_cache()
  if arguments.codec:
    print(code_corpus(arguments.sets, arguments.workdir, stage=arguments.codec))
    return
  config = EncodeConfig(
    sets=tuple(arguments.sets),
    tokenizer=arguments.tokenizer,
    style=None if arguments.style == NO_STYLE else arguments.style,
    timed_voices=cast().answering,
  )
  print(encode_corpus(config, arguments.workdir))
