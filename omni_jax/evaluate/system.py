"""What evaluation asks of an assistant: every call batched, in blocks of a stated size, with progress.

The one place that knows how the assistant, its tokenizer, its style encoder and its vocoder are called.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from omni_jax.core.styles import Style
from omni_jax.generate.exchange import Ability, Answer, Question
from omni_jax.prepare.audio import resample

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
  """Something that shows how far a named piece of work is."""

  def __call__(self, name: str, total: int) -> Callable[[int], object]:
    """Starts a bar and returns the function that moves it forward by a number of samples."""
    ...


class Timing(NamedTuple):
  """One streamed answer: seconds of wall time until the first sound and the end, CPU seconds, seconds of sound."""

  first_sound_seconds: float
  first_is_before_end: bool
  wall_seconds: float
  cpu_seconds: float
  audio_seconds: float
  stages: dict[str, float]


class System:
  """An assistant seen from outside."""

  def __init__(self, assistant: Any, *, phones: Sequence[str], batch_size: int, readings: int, progress: Progress):
    """Keeps the assistant (`generate.exchange.Answering`), the phone symbols by id, and how often a text is read."""
    self._assistant, self._readings = assistant, readings
    self._phones = tuple(phones)
    self._batch_size = batch_size
    self._progress = progress

  @property
  def abilities(self) -> frozenset[Ability]:
    """What it can do besides hearing, answering and speaking."""
    return self._assistant.abilities

  def phones(self, waveforms: Sequence[np.ndarray]) -> list[list[str]]:
    """Returns the phones that the speech tokenizer hears."""
    heard = self._batched("phones", self._assistant.tokenizer.phones_batch, waveforms)
    return named_phones(heard, self._phones)

  def units(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the units of each waveform, repetitions kept."""
    return self._batched("units", self._assistant.tokenizer.encode_batch, waveforms)

  def hear(self, waveforms: Sequence[np.ndarray]) -> list[Style]:
    """Returns the style that the style encoder hears."""
    return self._batched("styles", self._assistant.style_encoder.hear_batch, waveforms)

  def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the words that the assistant hears."""
    return self._batched("recognition", self._assistant.recognise, waveforms)

  def resynthesise(self, waveforms: Sequence[np.ndarray], styles: Sequence[Style]) -> list[np.ndarray]:
    """Returns each recording after units and vocoder, spoken in the given style; or after the codes of a codec."""
    said = self._batched("vocoder", self._assistant.resynthesise, list(zip(waveforms, styles, strict=True)))
    return [self._heard(waveform) for waveform in said]

  def synthesise(self, texts: Sequence[str], styles: Sequence[Style]) -> list[np.ndarray]:
    """Returns each text spoken in its style."""
    say = functools.partial(self._assistant.synthesise, readings=self._readings)
    spoken = self._batched("synthesis", say, list(zip(texts, styles, strict=True)))
    return [self._heard(one.waveform) for one in spoken]

  def answer(self, questions: Sequence[Question], name: str = "answers") -> list[Answer]:
    """Returns the answers; one that breaks its layout carries a `problem` and counts as wrong.

    A cascade may have recognised nothing: that question is not asked, and its answer is wrong.
    """
    asked = [row for row, question in enumerate(questions) if not _is_empty(question)]
    given = self._batched(name, self._assistant.answer, [questions[row] for row in asked])
    answers = [Answer(text="", problem="nothing was recognised, so nothing was asked")] * len(questions)
    for row, answer in zip(asked, given, strict=True):
      answers[row] = dataclasses.replace(answer, waveform=self._heard(answer.waveform))
    return answers

  def stream(self, question: Question) -> Timing:
    """Returns the times of one streamed answer; where nothing sounds, the first sound counts as late as the end."""
    start, cpu_start = time.perf_counter(), time.process_time()
    first, pieces, stages = 0.0, [], {}
    sound_after_first = False
    for event in self._assistant.stream(question):
      if event.samples is not None and len(event.samples):
        sound_after_first = bool(pieces)
        first = first or time.perf_counter() - start
        pieces.append(len(event.samples))
      if event.timings:
        stages = dict(event.timings)
    wall = time.perf_counter() - start
    return Timing(
      first_sound_seconds=first or wall,
      first_is_before_end=sound_after_first,
      wall_seconds=wall,
      cpu_seconds=time.process_time() - cpu_start,
      audio_seconds=sum(pieces) / self._assistant.sample_rate,
      stages=stages,
    )

  def _heard(self, waveform: np.ndarray) -> np.ndarray:
    """Returns a sound of the vocoder as listeners take it, float32 at 16 kHz."""
    return resample(np.asarray(waveform, np.float32), sample_rate=self._assistant.sample_rate)

  def _batched(self, name: str, function: Callable, items: Sequence[Item]) -> list:
    advance = self._progress(name, len(items))
    results = []
    for block in _blocks(items, self._batch_size):
      results += function(block)
      advance(len(block))
    assert len(results) == len(items), f"{name}: {len(results)} results for {len(items)} items"
    return results


def named_phones(heard: Sequence[Sequence[int]], symbols: Sequence[str]) -> list[list[str]]:
  """Returns the symbols of phone ids.

  The head may have more rows than there are symbols; one of those heard is an error like any other.
  """
  spare = max((phone for row in heard for phone in row), default=0) + 1 - len(symbols)
  names = (*symbols, *(f"spare-{number}" for number in range(spare)))
  return [[names[phone] for phone in row] for row in heard]


def _is_empty(question: Question) -> bool:
  return question.waveform is None and question.image is None and not question.text.strip()


def _blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
  rows = list(items)
  for start in range(0, len(rows), size):
    yield rows[start : start + size]
