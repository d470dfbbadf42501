"""Speak a text in a style: the language model writes units or codes, the vocoder or codec makes them sound.

Which system speaks follows from the stage; one that learned no styles has its own voice.

With --units a vocoder speaks alone, and no language model is needed. --condition is for a vocoder that knows more than
the 24 styles: EMOVA's unit-to-speech takes the names of its conditions, a vocoder of several speakers takes a number.
"""

import argparse
from pathlib import Path

import numpy as np

from omni_jax.cli import assistants
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.exchange import DEFAULT_STYLE, Ability
from omni_jax.generate.speech_stages import VOCODER, load_vocoder
from omni_jax.prepare.audio import save_wav
from omni_jax.tokens.units import parse_units

EXAMPLE = """omni say --workdir runs/tiny --text 'the dog is old' --style male-sad-low --out said.wav
  omni say --workdir runs/emova --vocoder voice --units '<|speech_12|><|speech_7|>' --out said.wav \\
    --condition gender-female_emotion-happy_speed-fast_pitch-high"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni say`."""
  assistants.add_arguments(parser, vocoder=f"of the vocoder; now {VOCODER}")
  said = parser.add_mutually_exclusive_group(required=True)
  said.add_argument("--text", help="what to say")
  said.add_argument("--units", help="what the vocoder says without a text: reduced units, or a file of them")
  parser.add_argument("--style", metavar="GENDER-EMOTION-PITCH", help=f"how to say it; now {DEFAULT_STYLE}")
  parser.add_argument("--condition", metavar="NAME", help="how the vocoder speaks, where --style does not say it")
  parser.add_argument("--out", required=True, type=Path, metavar="FILE.wav", help="where the sound goes")


def run(arguments: argparse.Namespace) -> None:
  """Speaks."""
  enable_compilation_cache()
  style = Style.parse(arguments.style) if arguments.style else DEFAULT_STYLE
  if arguments.units is not None:
    _say_units(arguments, style)
    return
  assistant = assistants.load(arguments)
  (spoken,) = assistant.synthesise([(arguments.text, style)], manner=arguments.condition)
  follows = Ability.SPEAKS_STYLES in assistant.abilities
  manner = arguments.condition or (style if follows else "")
  _save(arguments, spoken.waveform, assistant.sample_rate, f"{len(spoken.units)} units", manner)
  if arguments.style and not follows:
    # What writes units leaves the style to its vocoder; codes hold the voice.
    alone = not hasattr(assistant, "vocoder")
    voice = "has one voice, it does not" if alone else "learned no styles, only its vocoder may"
    print(f"style: this stage {voice} follow {style}")
  if spoken.problem:
    print(f"problem: {spoken.problem}")


def _say_units(arguments: argparse.Namespace, style: Style) -> None:
  path = Path(arguments.units)
  units = parse_units(path.read_text(errors="replace") if path.suffix and path.is_file() else arguments.units)
  vocoder = load_vocoder(arguments.workdir, stage=arguments.vocoder or VOCODER)
  number = len(units)
  if vocoder.num_codebooks > 1:
    if number % vocoder.num_codebooks:
      raise UserError(
        f"{number} codes",
        where="--units",
        rule=f"the vocoder speaks frames of {vocoder.num_codebooks} codes",
        remedy="give whole frames, one after another",
      )
    units = units.reshape(-1, vocoder.num_codebooks)
  waveform = vocoder.decode(units, arguments.condition or style)
  _save(arguments, waveform, vocoder.sample_rate, f"{number} units", arguments.condition or style)


def _save(arguments: argparse.Namespace, waveform: np.ndarray, sample_rate: int, *said: object) -> None:
  save_wav(arguments.out, waveform, sample_rate)
  parts = [f"{len(waveform) / sample_rate:.2f} s", *(str(part) for part in said if part)]
  print(f"{arguments.out}: {', '.join(parts)}")
