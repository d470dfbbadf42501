"""Spoken dialogue from text dialogue, as steps of `build/driver.py`: what can be said, in which style, and its sound.

    text: user "hi **there**", assistant "hello"
      -> Cleaned      user "hi there", assistant "hello"; what cannot be said is put aside
      -> Spoken       a style by a judge, a voice by the record's id, FLAC at 16 kHz; the task is `dialogue`

A text of one turn becomes an utterance (`speech`), which is recognised and synthesised; a conversation about a picture
becomes a spoken one. Units are the work of `omni units --source records:...`.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from omni_jax.build.driver import Work
from omni_jax.build.each import apart, apart_each
from omni_jax.build.styling import BY_WORDS, Judge, Judgement
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.speakable import ENGLISH, Speakable
from omni_jax.prepare.voices import catalogue


class Line(NamedTuple):
  """What a voice, named `engine:speaker`, says in a style."""

  text: str
  style: Style
  voice: str


class Voices(Protocol):
  """Who can speak: a frozen dataclass that goes to other processes."""

  @property
  def users(self) -> tuple[str, ...]:
    """Names of the voices that ask."""
    ...

  @property
  def answers(self) -> tuple[str, ...]:
    """Names of the voices that answer."""
    ...

  def gender(self, name: str) -> str:
    """Returns the gender of a voice."""
    ...

  def open(self) -> Callable[[Sequence[Line]], list[np.ndarray]]:
    """Returns what says lines, float32 [A] at 16 kHz each, with its models loaded; called once in each process."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engines:
  """The voices of espeak-ng and flite (`prepare.voices`); those of `espeak-cmn` say Chinese characters."""

  users: tuple[str, ...]
  answers: tuple[str, ...]

  def gender(self, name: str) -> str:
    """Returns the gender of a voice."""
    return catalogue.voice(name).gender

  def open(self) -> Callable[[Sequence[Line]], list[np.ndarray]]:
    """Returns what says lines."""
    return lambda lines: [catalogue.speak(line.text, line.style, voice_name=line.voice) for line in lines]


def english_voices() -> Engines:
  """Returns the English voices of this machine: users as in the tiny journey's corpus, one answer for each gender."""
  roles = catalogue.cast()
  return Engines(users=tuple(name for names in roles.seen.values() for name in names), answers=roles.answering)


def mandarin_voices() -> Engines:
  """Returns the Mandarin voices of espeak-ng, which speak in the neutral emotion alone."""
  users = tuple(name for names in catalogue.MANDARIN.seen.values() for name in names)
  return Engines(users=users, answers=tuple(names[0] for names in catalogue.MANDARIN.seen.values()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cleaned:
  """The step to text that can be said.

  Attributes:
    speakable: what may be said.
    most_turns: a longer conversation ends after so many.
  """

  speakable: Speakable = ENGLISH
  most_turns: int = 2

  def open(self) -> Work:
    """Returns the step."""
    return apart_each(self._cleaned)

  def _cleaned(self, example: Example) -> Example:
    turns = tuple(
      dataclasses.replace(turn, text=self.speakable.spoken(turn.text, where=f"{example.id}, turn {place}"))
      for place, turn in enumerate(example.turns[: self.most_turns])
    )
    return dataclasses.replace(example, turns=turns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spoken:
  """The step from text to sound.

  Attributes:
    voices: who speaks.
    judge: decides the styles.
  """

  voices: Voices
  judge: Judge = BY_WORDS

  def open(self) -> Work:
    """Returns the step with judge and voices loaded."""
    say, judge = self.voices.open(), self.judge.open()

    def work(examples: Sequence[Example]) -> list[Example]:
      planned = [self._lines(example, judge) for example in examples]
      sounds = iter(say([line for lines in planned for line in lines]))
      return [
        _with_sound(example, lines, [next(sounds) for _ in lines])
        for example, lines in zip(examples, planned, strict=True)
      ]

    return apart(work)

  def _lines(self, example: Example, judge: Judgement) -> list[Line]:
    """Returns what is said; the voices are drawn by the record's id, both of one gender where that can be."""
    number = zlib.crc32(example.id.encode())
    user = self.voices.users[number % len(self.voices.users)]
    same = [name for name in self.voices.answers if self.voices.gender(name) == self.voices.gender(user)]
    answering = same or list(self.voices.answers)
    answer = answering[number // 7 % len(answering)]
    names = [user if turn.role == "user" or len(example.turns) == 1 else answer for turn in example.turns]
    styles = judge(example, [self.voices.gender(name) for name in names])
    return [Line(*parts) for parts in zip((turn.text for turn in example.turns), styles, names, strict=True)]


def _with_sound(example: Example, lines: Sequence[Line], sounds: Sequence[np.ndarray]) -> Example:
  """Returns the record with its turns said; what was known of other sound is left out."""
  if len(example.turns) > 1 and [turn.role for turn in example.turns] != ["user", "assistant"] * (len(lines) // 2):
    raise UserError(
      f"turns of {', '.join(turn.role for turn in example.turns)}",
      where=example.id,
      rule="a text, or a conversation in which user and assistant take turns",
      remedy="leave it out, or keep an even number of turns",
    )
  turns = tuple(
    Turn(turn.role, turn.text, encode_flac(sound), style=str(line.style), voice=line.voice, phones=turn.phones)
    for turn, line, sound in zip(example.turns, lines, sounds, strict=True)
  )
  if len(turns) == 1:
    return dataclasses.replace(example, task="speech", turns=(dataclasses.replace(turns[0], role="user"),))
  return dataclasses.replace(example, task="spoken_visual_question" if example.image else "dialogue", turns=turns)
