"""Three steps instead of one model: recognise the question, answer its text, speak the answer.

Nothing but words passes from one step to the next: no tone of the question, no beginning of an answer before its end.
This is what a system that hears and speaks by itself is compared with.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from omni_jax.core.styles import Style
from omni_jax.generate.exchange import (
  DEFAULT_STYLE,
  READINGS,
  Ability,
  Answer,
  Answering,
  Event,
  Question,
  SpokenText,
  aloud,
  check_asked,
)
from omni_jax.generate.streaming import Stopwatch
from omni_jax.speech.interface import Manner


class Cascade:
  """An assistant made of up to three others."""

  def __init__(self, *, hears: Answering, answers: Answering, speaks: Answering):
    """Keeps who recognises, who answers in writing, and who reads aloud."""
    self._hears, self._answers, self._speaks = hears, answers, speaks

  @classmethod
  def of(cls, assistant: Answering) -> "Cascade":
    """Returns the cascade of one assistant's own parts."""
    return cls(hears=assistant, answers=assistant, speaks=assistant)

  @property
  def sample_rate(self) -> int:
    """Samples a second of what it says."""
    return self._speaks.sample_rate

  @property
  def abilities(self) -> frozenset[Ability]:
    """It sees where the step in the middle does; the tone of a question it never hears."""
    return self._answers.abilities & {Ability.SEES}

  def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the words of each recording, float [A] at 16 kHz."""
    return self._hears.recognise(waveforms)

  def synthesise(
    self, texts: Sequence[tuple[str, Style]], *, readings: int = READINGS, manner: Manner = None
  ) -> list[SpokenText]:
    """Returns each text said in its style."""
    return self._speaks.synthesise(texts, readings=readings, manner=manner)

  def resynthesise(self, recordings: Sequence[tuple[np.ndarray, Style]]) -> list[np.ndarray]:
    """Returns each recording after the units of the last step, said in its style."""
    return self._speaks.resynthesise(recordings)

  def answer(self, questions: Sequence[Question]) -> list[Answer]:
    """Returns the answer to each question; one of which nothing was recognised is not asked, which is a problem.

    Raises:
      UserError: nothing asked, earlier turns, or an image for a system that does not see.
    """
    check_asked(questions, abilities=self.abilities)
    watch = Stopwatch()
    spoken = [row for row, question in enumerate(questions) if question.waveform is not None]
    with watch.stage("hear"):
      heard = self.recognise([np.asarray(questions[row].waveform) for row in spoken])
    texts = [question.text for question in questions]
    for row, words in zip(spoken, heard, strict=True):
      texts[row] = " ".join(part for part in (texts[row], words) if part)
    asked = [row for row, question in enumerate(questions) if texts[row].strip() or question.image is not None]
    with watch.stage("answer"):
      written = self._answers.answer([Question(text=texts[row], image=questions[row].image) for row in asked])
    answers = [Answer(text="", problem="nothing was recognised, so nothing was asked")] * len(questions)
    for row, answer in zip(asked, written, strict=True):
      answers[row] = Answer(text=answer.text, problem=answer.problem)
    with watch.stage("vocoder"):
      self._speak(questions, answers)
    timings = watch.rounded()
    for row, words in zip(spoken, heard, strict=True):
      answers[row] = dataclasses.replace(answers[row], heard_text=words)
    return [dataclasses.replace(answer, timings=timings) for answer in answers]

  def stream(self, question: Question) -> Iterator[Event]:
    """Returns the answer in one piece: nothing sounds before its text is whole."""
    (answer,) = self.answer([question])
    yield Event(text=answer.text, heard_text=answer.heard_text, style=answer.style)
    if len(answer.waveform):
      yield Event(samples=answer.waveform)
    yield Event(answer=answer, timings=answer.timings)

  def _speak(self, questions: Sequence[Question], answers: list[Answer]) -> None:
    """Puts sound into the answers that are to be spoken."""
    spoken = [
      row
      for row, (question, answer) in enumerate(zip(questions, answers, strict=True))
      if question.speak and answer.text.strip() and (question.waveform is not None or question.style)
    ]
    styles = [questions[row].style or DEFAULT_STYLE for row in spoken]
    said = self.synthesise([(answers[row].text, style) for row, style in zip(spoken, styles, strict=True)])
    for row, style, one in zip(spoken, styles, said, strict=True):
      answers[row] = aloud(answers[row], one, style=style)
