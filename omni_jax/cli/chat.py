"""Ask the assistant: typed or spoken words, with or without an image; it answers in text, and aloud where asked.

A spoken question is answered aloud. A typed one is answered aloud if --out or --style is given. Text appears as it is
written; at the end the times to the first sound and to the last are printed, with the CPU seconds of every stage.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from omni_jax.cli import assistants
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.styles import Style
from omni_jax.generate.exchange import DEFAULT_STYLE, Answer, Answering, Question
from omni_jax.generate.sampling import Sampling
from omni_jax.prepare.audio import load_audio, save_wav
from omni_jax.prepare.images import load_image

EXAMPLE = "omni chat --workdir runs/tiny --image picture.png --audio question.wav --out reply.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni chat`."""
  said = "the stage that {}, where it is not the journey's"
  assistants.add_arguments(parser, tokenizer=said.format("hears you"), vocoder=said.format("speaks the answer"))
  parser.add_argument("--text", default="", help="what you type")
  parser.add_argument("--image", type=Path, metavar="FILE", help="what you show")
  parser.add_argument("--audio", type=Path, metavar="FILE", help="what you say")
  parser.add_argument("--out", type=Path, metavar="FILE.wav", help="where the spoken answer goes")
  parser.add_argument("--style", metavar="GENDER-EMOTION-PITCH", help=f"of the answer, for example {DEFAULT_STYLE}")
  parser.add_argument("--temperature", type=float, default=0.0, help="0 (now) always takes the likeliest token")
  parser.add_argument("--warm-up", action="store_true", help="answer once before, so that no time is compilation")


def run(arguments: argparse.Namespace) -> None:
  """Asks and prints."""
  enable_compilation_cache()
  question = _question(arguments)
  assistant = assistants.load(arguments, sampling=Sampling(temperature=arguments.temperature))
  if arguments.warm_up:
    for _ in assistant.stream(question):
      pass
  answer, seconds = _show(assistant, question)
  if arguments.out and len(answer.waveform):
    save_wav(arguments.out, answer.waveform, assistant.sample_rate)
    print(f"sound:     {arguments.out}")
  audio_seconds = len(answer.waveform) / assistant.sample_rate
  print("\n".join(_times(seconds, answer.timings, audio_seconds=audio_seconds, warm=arguments.warm_up)))


def _question(arguments: argparse.Namespace) -> Question:
  style = Style.parse(arguments.style) if arguments.style else None
  if arguments.out and arguments.audio is None and style is None:
    style = DEFAULT_STYLE
  return Question(
    text=arguments.text,
    image=None if arguments.image is None else load_image(arguments.image),
    waveform=None if arguments.audio is None else load_audio(arguments.audio),
    style=style,
  )


def _show(assistant: Answering, question: Question) -> tuple[Answer, dict[str, float]]:
  """Returns the answer and the seconds to its first sound and its end; prints its words as they come."""
  start, seconds, label, answer = time.perf_counter(), {}, "", Answer(text="")
  for event in assistant.stream(question):
    if event.samples is not None:
      seconds.setdefault("first sound", time.perf_counter() - start)
    for name, words in (("heard", event.heard_text), ("answer", event.text)):
      if words:
        print(
          words if label == name else f"{chr(10) if label else ''}{name + ':':<11}{words.lstrip()}", end="", flush=True
        )
        label = name
    answer = event.answer or answer
  seconds["whole answer"] = time.perf_counter() - start
  print()
  for name, value in (("you sound", answer.heard_style), ("style", answer.style), ("problem", answer.problem)):
    if value:
      print(f"{name + ':':<11}{value}")
  return answer, seconds


def _times(seconds: Mapping[str, float], stages: Mapping[str, float], *, audio_seconds: float, warm: bool) -> list[str]:
  """Returns the lines that tell how long it took."""
  lines = []
  for name, value in seconds.items():
    share = f", {value / audio_seconds:.2f} x the {audio_seconds:.2f} s of sound" if audio_seconds else ""
    lines.append(f"{name + ':':<14}{value:.3f} s{share}")
  lines.append("CPU seconds:  " + ", ".join(f"{stage} {spent:.3f}" for stage, spent in stages.items()))
  lines[-1] += f" (in all {np.sum(list(stages.values())):.3f})"
  return lines if warm else [*lines, "compilation is in these times; --warm-up leaves it out"]
