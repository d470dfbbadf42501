"""What assistants share that hear and speak in units: a tokenizer before the model, a vocoder behind it.

How a question is put to the model and how its answer reads back is each system's own: `_prompt`, `_answer`, `_live`.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omni_jax.core.styles import Style
from omni_jax.generate.engine import Engine, Prompt, prompt_of
from omni_jax.generate.exchange import (
  MAX_TRANSCRIPT,
  READINGS,
  Ability,
  Answer,
  Event,
  Question,
  SpokenText,
  check_asked,
  check_waveform,
  cut_problem,
)
from omni_jax.generate.speech_stages import check_units_of, load_tokenizer, load_vocoder
from omni_jax.generate.streaming import LiveAnswer, Stopwatch
from omni_jax.generate.synthesis import Reader, Script
from omni_jax.speech.interface import Manner, SpeechTokenizer, Vocoder
from omni_jax.speech.lengths import LENGTHS_FILE, Lengths
from omni_jax.tokens.units import reduce_units

_STREAM_BLOCK = 8  # tokens between two looks at a stream; about a quarter of a second of sound


class Heard(NamedTuple):
  """What was heard of a question: reduced units, empty without speech, and the style where a system hears it."""

  units: np.ndarray
  style: Style | None = None


class UnitAssistant(ABC):
  """Recognises, reads aloud and answers; subclasses write the prompts and read the answers."""

  def __init__(
    self,
    engine: Engine,
    *,
    plain: Engine,
    script: Script,
    tokenizer: SpeechTokenizer,
    vocoder: Vocoder,
    lengths: Lengths | None,
    most: int,
  ):
    """Keeps the parts.

    Args:
      engine: answers questions.
      plain: recognises and reads aloud.
      script: how it is asked to.
      tokenizer: recordings to units.
      vocoder: units to sound.
      lengths: how long texts last, to judge readings by; without, their length is not judged.
      most: tokens of an answer.
    """
    self.engine, self.tokenizer, self.vocoder = engine, tokenizer, vocoder
    self._plain, self._script, self._most = plain, script, most
    judge = {"vocoder": vocoder, "lengths": lengths} if lengths else {}
    self.reader = Reader(plain, script=script, max_new_tokens=most, **judge)

  @property
  def sample_rate(self) -> int:
    """Samples a second of what it says."""
    return self.vocoder.sample_rate

  @property
  @abstractmethod
  def abilities(self) -> frozenset[Ability]:
    """What it can do besides hearing, answering and speaking."""

  def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the words of each recording, float [A] at 16 kHz."""
    prompts = [prompt_of(self._script.ask_to_write(*heard), state="write") for heard in self._hear(waveforms)]
    return [self._script.read(ids) for ids in self._plain.generate(prompts, max_new_tokens=MAX_TRANSCRIPT)]

  def synthesise(
    self, texts: Sequence[tuple[str, Style]], *, readings: int = READINGS, manner: Manner = None
  ) -> list[SpokenText]:
    """Returns each text said in its style: the best of so many readings (`generate.synthesis`).

    With a `manner`, such as a condition that the vocoder knows by name, the vocoder speaks all in it.
    """
    spoken = []
    for ids, (_, style) in zip(self.reader.read(texts, readings=readings), texts, strict=True):
      units = reduce_units(self._script.said(ids))[0]
      sound, problem = self._speak(units, manner or style), cut_problem(ids, most=self._most)
      spoken.append(SpokenText(units=units, waveform=sound, problem=problem))
    return spoken

  def resynthesise(self, recordings: Sequence[tuple[np.ndarray, Style]]) -> list[np.ndarray]:
    """Returns each recording, float [A] at 16 kHz, after units and vocoder, said in its style."""
    units = self._units([waveform for waveform, _ in recordings])
    return [self._speak(row, style) for row, (_, style) in zip(units, recordings, strict=True)]

  def answer(self, questions: Sequence[Question]) -> list[Answer]:
    """Returns the answer to each question.

    Raises:
      UserError: nothing asked, something that this system cannot do, or a question too long for the context.
    """
    watch = Stopwatch()
    prompts, heard = self._read(questions, watch)
    with watch.stage("answer"):
      rows = self.engine.generate(prompts, max_new_tokens=self._most)
    answers = [self._answer(*parts) for parts in zip(rows, questions, heard, strict=True)]
    with watch.stage("vocoder"):
      answers = [self._aloud(*pair) for pair in zip(questions, answers, strict=True)]
    timings = watch.rounded()
    return [dataclasses.replace(answer, timings=timings) for answer in answers]

  def stream(self, question: Question) -> Iterator[Event]:
    """Returns the answer piece by piece; the last event has the whole of it.

    Where nothing of an answer is certain before its end, its text and its sound come as one piece each.
    """
    watch = Stopwatch()
    prompts, (heard,) = self._read([question], watch)
    live, ids, sound = self._live(question), [], []
    for event in self._events(prompts, live, ids, watch):
      sound += [] if event.samples is None else [event.samples]
      yield event
    answer = self._answer(np.concatenate(ids), question, heard)
    if live is None:
      yield Event(text=answer.text, heard_text=answer.heard_text, style=answer.style)
    answer = dataclasses.replace(answer, waveform=np.concatenate([np.zeros(0, np.float32), *sound]))
    if not sound:
      with watch.stage("vocoder"):
        answer = self._aloud(question, answer)
      if len(answer.waveform):
        yield Event(samples=answer.waveform)
    timings = watch.rounded()
    yield Event(answer=dataclasses.replace(answer, timings=timings), timings=timings)

  @abstractmethod
  def _prompt(self, question: Question, heard: Heard, watch: Stopwatch) -> Prompt:
    """Returns the question behind as many earlier turns as there is room for, the last ones."""

  @abstractmethod
  def _answer(self, ids: np.ndarray, question: Question, heard: Heard) -> Answer:
    """Returns what the ids of an answer say, without its sound."""

  @abstractmethod
  def _live(self, question: Question) -> LiveAnswer | None:
    """Returns what reads the ids of an answer as they come; None where only the whole of it reads back."""

  def _aloud(self, question: Question, answer: Answer) -> Answer:
    """Returns an answer with its sound, if it is to have one."""
    if not question.speak or answer.style is None:
      return answer
    return dataclasses.replace(answer, waveform=self._speak(answer.units, answer.style))

  def _read(self, questions: Sequence[Question], watch: Stopwatch) -> tuple[list[Prompt], list[Heard]]:
    """Returns the prompts and what was heard."""
    check_asked(questions, abilities=self.abilities)
    spoken = [row for row, question in enumerate(questions) if question.waveform is not None]
    heard = [Heard(np.zeros(0, np.int32))] * len(questions)
    with watch.stage("hear"):
      for row, one in zip(spoken, self._hear([np.asarray(questions[row].waveform) for row in spoken]), strict=True):
        heard[row] = one
    return [self._prompt(question, one, watch) for question, one in zip(questions, heard, strict=True)], heard

  def _events(
    self, prompts: Sequence[Prompt], live: LiveAnswer | None, ids: list[np.ndarray], watch: Stopwatch
  ) -> Iterator[Event]:
    """Returns what becomes certain while an answer is written, whose ids are added to `ids`."""
    blocks = self.engine.stream(prompts, max_new_tokens=self._most, block=_STREAM_BLOCK)
    for block in watch.iterate("answer", blocks):
      ids.append(block[0][block[0] >= 0])
      if live is not None:
        yield from watch.iterate("vocoder", live.push(ids[-1]))
    if live is not None:
      yield from watch.iterate("vocoder", live.finish())

  def _hear(self, waveforms: Sequence[np.ndarray]) -> list[Heard]:
    """Returns what is heard of each recording."""
    return [Heard(units) for units in self._units(waveforms)]

  def _units(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the reduced units of each recording."""
    checked = [check_waveform(waveform) for waveform in waveforms]
    return [reduce_units(units)[0] for units in self.tokenizer.encode_batch(checked)] if checked else []

  def _speak(self, units: np.ndarray, manner: Manner) -> np.ndarray:
    return np.asarray(self.vocoder.decode(units, manner), np.float32) if len(units) else np.zeros(0, np.float32)


def load_speech(workdir: Path, *, tokenizer: str, vocoder: str, codebook_size: int) -> dict[str, Any]:
  """Returns the `tokenizer`, the `vocoder` and the `lengths` of a working folder (None where it has none).

  Raises:
    UserError: a stage is missing or damaged, or has other units than a vocabulary with `codebook_size` of them.
  """
  hearing, speaking = load_tokenizer(workdir, stage=tokenizer), load_vocoder(workdir, stage=vocoder)
  for name, part in ((tokenizer, hearing), (vocoder, speaking)):
    check_units_of(part, codebook_size=codebook_size, where=workdir / "stages" / name)
  path = workdir / "units" / LENGTHS_FILE
  return {"tokenizer": hearing, "vocoder": speaking, "lengths": Lengths.load(path) if path.exists() else None}
