"""Write down the words of recordings, and their style where the system hears it; --units: what the tokenizer makes.

Units are printed reduced, so that `omni say --units` speaks them; codes of several quantisers frame by frame.
"""

import argparse
from pathlib import Path

from omni_jax.cli import assistants
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.generate.exchange import Ability
from omni_jax.generate.speech_stages import TOKENIZER, load_tokenizer
from omni_jax.prepare.audio import load_audio
from omni_jax.tokens.units import reduce_units

EXAMPLE = "omni hear --workdir runs/tiny --audio question.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni hear`."""
  assistants.add_arguments(parser, tokenizer=f"of speech; now {TOKENIZER}, or what the stage learned with")
  parser.add_argument("--audio", required=True, nargs="+", type=Path, metavar="FILE", help="recordings of any rate")
  parser.add_argument("--units", action="store_true", help="print units; no language model is needed")


def run(arguments: argparse.Namespace) -> None:
  """Hears and prints one line for each recording."""
  enable_compilation_cache()
  if arguments.units:
    _print_units(arguments)
    return
  waveforms = [load_audio(path) for path in arguments.audio]
  assistant = assistants.load(arguments)
  words = assistant.recognise(waveforms)
  styles = [""] * len(words)
  if Ability.HEARS_STYLES in assistant.abilities:
    styles = [f"{style}: " for style in assistant.style_encoder.hear_batch(waveforms)]
  for path, text, style in zip(arguments.audio, words, styles, strict=True):
    print(f"{path}: {style}{text}")


def _print_units(arguments: argparse.Namespace) -> None:
  tokenizer = load_tokenizer(arguments.workdir, stage=arguments.tokenizer or TOKENIZER)
  waveforms = [load_audio(path, sample_rate=tokenizer.sample_rate) for path in arguments.audio]
  for path, units in zip(arguments.audio, tokenizer.encode_batch(waveforms), strict=True):
    row = reduce_units(units)[0] if tokenizer.num_codebooks == 1 else units.reshape(-1)
    print(f"{path}: {' '.join(map(str, row.tolist()))}")
