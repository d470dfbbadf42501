"""What goes into an assistant and what comes out, the same for every system, and what an assistant must be able to do.

A system that cannot do something says so in `abilities`: it does not see, or hears words and not how they are said.
Whoever asks for it anyway is told; evaluation leaves those tasks out and says why.
"""

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from omni_jax.batches.pictures import Image
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.interface import Manner

READINGS = 9  # of a text to be said, of which the best is kept: the greedy one and eight draws
MAX_TRANSCRIPT = 64  # tokens
MAX_TOKENS = 2048  # of a question and its answer
DEFAULT_STYLE = Style("female", "neutral", "normal")  # where a system chooses none
FEWEST_SAMPLES = 1600  # of a question, a tenth of a second


class Ability(enum.Enum):
  """Something that not every system can do; the values complete the sentence 'it ...'."""

  SEES = "sees images"
  HEARS_STYLES = "hears in which style the user speaks, and suits its own to it"
  SPEAKS_STYLES = "speaks in the style that it is asked for"
  REMEMBERS = "remembers earlier turns"
  READS_PHONES = "has a speech tokenizer that phones can be read from"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Question:
  """What the user gives: text or speech, with or without an image.

  Attributes:
    text: typed words.
    image: an image file's bytes, or pixels uint8 [height, width, 3]; or several of them.
    waveform: speech, float [A] at 16 kHz.
    style: of the answer, chosen by the user; a typed question with a style is answered aloud.
    hear_style: whether the model is told the style of the speech.
    speak: whether an answer with units is made into sound.
    history: earlier turns, oldest first; where they do not fit, the oldest are forgotten.
  """

  text: str = ""
  image: Image | Sequence[Image] | None = None
  waveform: np.ndarray | None = None
  style: Style | None = None
  hear_style: bool = True
  speak: bool = True
  history: Sequence["Past"] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
  """What the assistant says.

  Attributes:
    text: the words.
    heard_text: the words of the user as the assistant heard them; empty for a typed question.
    heard_style: the style of the user's speech, by the style encoder.
    heard_units: int32 [N] reduced units of the user's speech, where the system hears units.
    style: in which the answer is spoken; None if it is written only, or the system has one voice.
    units: int32 [N] reduced units, or codes [F, Q].
    waveform: float32 [A] at the vocoder's rate; empty if it is written only.
    problem: what breaks the layout; a strict caller counts such an answer as wrong.
    timings: CPU seconds by stage, of the whole batch that this answer was in.
  """

  text: str
  heard_text: str = ""
  heard_style: Style | None = None
  heard_units: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
  style: Style | None = None
  units: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
  waveform: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
  problem: str = ""
  timings: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Past(NamedTuple):
  """An earlier turn of a conversation."""

  question: Question
  answer: Answer


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpokenText:
  """A text said: reduced units int32 [N] or codes [F, Q], float32 samples [A], and what went wrong, if anything."""

  units: np.ndarray
  waveform: np.ndarray
  problem: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Event:
  """Something that became certain while an answer streams; the last event has the answer and the timings."""

  text: str = ""
  heard_text: str = ""
  style: Style | None = None
  samples: np.ndarray | None = None
  answer: Answer | None = None
  timings: Mapping[str, float] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Answering(Protocol):
  """An assistant: all calls take and return lists and run as one batch."""

  @property
  def sample_rate(self) -> int:
    """Samples a second of what it says."""
    ...

  @property
  def abilities(self) -> frozenset[Ability]:
    """What it can do besides hearing, answering and speaking."""
    ...

  def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the words of each recording, float [A] at 16 kHz."""
    ...

  def synthesise(
    self, texts: Sequence[tuple[str, Style]], *, readings: int = READINGS, manner: Manner = None
  ) -> list[SpokenText]:
    """Returns each text said in its style; a system of one voice leaves the style out."""
    ...

  def resynthesise(self, recordings: Sequence[tuple[np.ndarray, Style]]) -> list[np.ndarray]:
    """Returns each recording, float [A] at 16 kHz, after its units or codes, said in its style."""
    ...

  def answer(self, questions: Sequence[Question]) -> list[Answer]:
    """Returns the answer to each question."""
    ...

  def stream(self, question: Question) -> Iterator[Event]:
    """Returns the answer piece by piece; the last event has the whole of it."""
    ...


def check_waveform(waveform: Any) -> np.ndarray:
  """Returns a waveform that can be heard, float32 [A].

  Raises:
    UserError: several channels, too short, or not finite.
  """
  waveform = np.asarray(waveform, np.float32)
  if waveform.ndim != 1 or len(waveform) < FEWEST_SAMPLES or not np.isfinite(waveform).all():
    finite = f"{np.isfinite(waveform).mean():.0%} of it finite"
    raise UserError(
      f"a waveform of shape {waveform.shape}, {finite}",
      where="question",
      rule=f"one channel, at least {FEWEST_SAMPLES} samples at 16 kHz, all finite",
      remedy="record at least a tenth of a second",
    )
  return waveform


def check_asked(questions: Sequence[Question], *, abilities: frozenset[Ability]) -> None:
  """Raises a UserError where a question asks nothing, or asks something of a system that it cannot do."""
  for question in questions:
    if not question.text.strip() and question.image is None and question.waveform is None:
      raise UserError("nothing asked", where="question", rule="text, speech or an image", remedy="give one of them")
    for name, given, ability in (
      ("an image", question.image is not None, Ability.SEES),
      ("earlier turns", bool(question.history), Ability.REMEMBERS),
    ):
      if given and ability not in abilities:
        raise UserError(
          f"a question with {name}",
          where="question",
          rule=f"this is no system that {ability.value}",
          remedy="leave it out, or ask another system",
        )


def check_words(texts: Iterable[str]) -> None:
  """Raises a UserError where a text that is to be said has no words."""
  if not all(text.strip() for text in texts):
    raise UserError("empty text", where="synthesis", rule="a text has words", remedy="give something to say")


def cut_problem(ids: np.ndarray, *, most: int) -> str:
  """Returns the problem of an answer that did not end within `most` tokens or columns, empty for one that did."""
  return f"cut after {most}" if ids.shape[-1] >= most else ""


def aloud(answer: Answer, said: SpokenText, *, style: Style) -> Answer:
  """Returns an answer with its text read aloud; what went wrong with the reading is a problem of the answer too."""
  problem = "; ".join(part for part in (answer.problem, said.problem) if part)
  return dataclasses.replace(answer, style=style, units=said.units, waveform=said.waveform, problem=problem)
