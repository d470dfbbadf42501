"""Speak a text in a style: the language model writes units, the vocoder makes them sound."""

import argparse
from pathlib import Path

from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.styles import Style
from omni_jax.generate.assistant import Assistant
from omni_jax.prepare.audio import save_wav

EXAMPLE = "omni say --workdir runs/tiny --text 'the dog is old' --style male-sad-low --out said.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni say`."""
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument("--stage", default="tune", help="of the language model; now tune")
  parser.add_argument("--text", required=True, help="what to say")
  parser.add_argument("--style", default="female-neutral-normal", metavar="GENDER-EMOTION-PITCH", help="how to say it")
  parser.add_argument("--out", required=True, type=Path, metavar="FILE.wav", help="where the sound goes")


def run(arguments: argparse.Namespace) -> None:
  """Speaks."""
  enable_compilation_cache()
  style = Style.parse(arguments.style)
  assistant = Assistant.load(arguments.workdir, stage=arguments.stage)
  (spoken,) = assistant.synthesise([(arguments.text, style)])
  save_wav(arguments.out, spoken.waveform, assistant.vocoder.sample_rate)
  seconds = len(spoken.waveform) / assistant.vocoder.sample_rate
  print(f"{arguments.out}: {seconds:.2f} s, {len(spoken.units)} units, {style}")
  if spoken.problem:
    print(f"problem: {spoken.problem}")
