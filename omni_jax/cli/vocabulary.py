"""Lays out the ids of text, controls, speech units and styles, and makes or takes the text tokenizer.

With --config the tokenizer is trained on the corpus. With --base it is that of a released language model (Qwen2.5,
Llama 3.1, LLaMA, ...), and units and styles are put behind its tokens, in tables of a multiple of 128 rows; with
--speech-gpt, units and marks as SpeechGPT has them.
Writes WORKDIR/text: vocabulary.json and the tokenizer's files; what is there already is kept.
"""

import argparse
from pathlib import Path

from omni_jax.build.vocabulary import BaseVocabularyConfig, VocabularyConfig, build_base_vocabulary, build_vocabulary
from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError
from omni_jax.tokens.templates import TEMPLATES

EXAMPLE = """omni vocabulary --config configs/emova/vocabulary.py:tiny --workdir runs/tiny
  omni vocabulary --base Qwen2.5-0.5B --workdir runs/qwen
  omni vocabulary --base Qwen2.5-7B-Instruct --units emova-qwen-2-5-7b/added_tokens.json --released --workdir runs/7b"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni vocabulary`."""
  origin = parser.add_mutually_exclusive_group(required=True)
  origin.add_argument("--config", metavar="FILE.py:FUNCTION", help="train a tokenizer; how many rows")
  origin.add_argument("--base", type=Path, metavar="DIR", help="take that of a released model's folder")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="with --config: change a field; may be repeated"
  )
  base = parser.add_argument_group("with --base")
  base.add_argument("--template", choices=sorted(TEMPLATES), help="of the chat; by default found by its special tokens")
  base.add_argument("--units", type=Path, metavar="FILE", help="added_tokens.json or tokenizer.json of a release")
  base.add_argument("--codebook-size", type=int, metavar="N", help="number of speech units, now 4096")
  base.add_argument(
    "--released", action="store_true", help="as EMOVA released it: no styles, no controls of our layout"
  )
  base.add_argument("--speech-gpt", action="store_true", help="as SpeechGPT: --codebook-size is 1000 there")
  parser.add_argument("--overwrite", action="store_true", help="make it even if it is there")


def run(arguments: argparse.Namespace) -> None:
  """Makes the vocabulary."""
  if arguments.base is None:
    _refuse(arguments, "template", "units", "codebook_size", "released", "speech_gpt")
    config = load_config(arguments.config, returns=VocabularyConfig, settings=arguments.set)
    vocabulary = build_vocabulary(config, arguments.workdir, overwrite=arguments.overwrite)
  else:
    _refuse(arguments, "set")
    own = {name: getattr(arguments, name) for name in ("template", "units", "codebook_size")}
    given = {name: value for name, value in own.items() if value is not None}
    native, speech_gpt = not arguments.released, arguments.speech_gpt
    base = BaseVocabularyConfig(base=arguments.base, native=native, speech_gpt=speech_gpt, **given)
    vocabulary = build_base_vocabulary(base, arguments.workdir, overwrite=arguments.overwrite)
    print(f"{vocabulary.text_size} rows of text, then {vocabulary.extra_size} of units and what else is new")
  print(f"{arguments.workdir / 'text'}: {vocabulary.num_pieces} text pieces, {vocabulary.size} ids in all")


def _refuse(arguments: argparse.Namespace, *names: str) -> None:
  wrong = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name)]
  if wrong:
    raise UserError(
      f"{', '.join(wrong)} beside {'--config' if arguments.base is None else '--base'}",
      where="omni vocabulary",
      rule="--set changes a config; --template, --units, --codebook-size, --released and --speech-gpt belong to --base",
      remedy="leave it out",
    )
