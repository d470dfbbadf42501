"""Write down the words of recordings and the style they are spoken in."""

import argparse
from pathlib import Path

from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.generate.assistant import Assistant
from omni_jax.prepare.audio import load_audio

EXAMPLE = "omni hear --workdir runs/tiny --audio question.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni hear`."""
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument("--stage", default="tune", help="of the language model; now tune")
  parser.add_argument("--audio", required=True, nargs="+", type=Path, metavar="FILE", help="recordings of any rate")


def run(arguments: argparse.Namespace) -> None:
  """Hears and prints one line for each recording."""
  enable_compilation_cache()
  waveforms = [load_audio(path) for path in arguments.audio]
  assistant = Assistant.load(arguments.workdir, stage=arguments.stage)
  words, styles = assistant.recognise(waveforms), assistant.style_encoder.hear_batch(waveforms)
  for path, text, style in zip(arguments.audio, words, styles, strict=True):
    print(f"{path}: {style}: {text}")
