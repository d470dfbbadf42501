"""A talk of several turns with any assistant, whose answers the user may interrupt by speaking.

    user        question 1                    (speaks) question 2
    assistant             answer 1: text, sound, so|                 answer 2 ...
    history               question 1, what was said of answer 1      and so on

Text runs ahead of sound, so what was written when it stopped is more than what was heard of it; the next question
comes after all that was written. (Mini-Omni2, arXiv 2410.11190, section 2.5, hears the user in a row of its grid; that
row was never released, and a gate on the level of the sound serves every system.)
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.generate.exchange import Ability, Answer, Answering, Event, Past, Question
from omni_jax.prepare.audio import SAMPLE_RATE

INTERRUPTED = "interrupted"
_FRAME = SAMPLE_RATE // 50


class Conversation:
  """The turns so far, and the assistant that goes on from them."""

  def __init__(self, assistant: Answering):
    """Starts without a turn."""
    self._assistant = assistant
    self._history: list[Past] = []

  @property
  def history(self) -> tuple[Past, ...]:
    """The turns so far, oldest first."""
    return tuple(self._history)

  def ask(self, question: Question, *, interrupted: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Returns the answer to a question piece by piece; the last event has the whole of it.

    Args:
      question: its own history is replaced by this conversation's, where the assistant remembers.
      interrupted: looked at after every piece; once true, nothing more is generated, and what was said is the answer,
        whose problem is `interrupted`.
    """
    remembers = Ability.REMEMBERS in self._assistant.abilities
    said, pieces = Answer(text=""), []
    events = self._assistant.stream(dataclasses.replace(question, history=self.history if remembers else ()))
    for event in events:
      said = event.answer or dataclasses.replace(
        said,
        text=said.text + event.text,
        heard_text=said.heard_text + event.heard_text,
        style=event.style or said.style,
      )
      pieces += [] if event.samples is None else [event.samples]
      yield event
      if event.answer is None and interrupted():
        events.close()  # pyright: ignore[reportAttributeAccessIssue]  (a stream is a generator)
        sound = np.concatenate([np.zeros(0, np.float32), *pieces])
        said = dataclasses.replace(said, waveform=sound, problem=INTERRUPTED)
        yield Event(answer=said)
        break
    self._history.append(Past(question, said))


class SpeechGate:
  """Samples of a microphone in, whether somebody speaks out: louder than the room for most of a fifth of a second.

  The room is the quietest hundredth of what was heard. It tells a voice from silence, not a user from a loudspeaker:
  where both reach the microphone, cancel the echo before.
  """

  def __init__(self, *, seconds: float = 0.2, above_db: float = 12.0, least_db: float = -45.0):
    """Starts in silence.

    Args:
      seconds: of voice that count as speech.
      above_db: over the room.
      least_db: level, full scale being 0, below which nothing is a voice.
    """
    if seconds <= 0:
      raise UserError(f"{seconds} seconds", where="gate", rule="above 0", remedy="0.2 is usual")
    self._above, self._least = above_db, least_db
    self._recent: deque[bool] = deque(maxlen=max(round(seconds * SAMPLE_RATE / _FRAME), 1))
    # Of the last half minute; silence, until the room was heard.
    self._levels = deque([least_db - above_db], maxlen=30 * SAMPLE_RATE // _FRAME)
    self._rest = np.zeros(0, np.float32)

  @property
  def speaks(self) -> bool:
    """Whether somebody speaks now."""
    return len(self._recent) == self._recent.maxlen and sum(self._recent) >= 0.8 * len(self._recent)

  def push(self, samples: np.ndarray) -> bool:
    """Returns whether somebody speaks after these samples, float [A] at 16 kHz."""
    known = np.concatenate([self._rest, np.asarray(samples, np.float32)])
    whole = len(known) // _FRAME * _FRAME
    self._rest = known[whole:]
    for frame in known[:whole].reshape(-1, _FRAME):
      level = 10 * np.log10(float(np.square(frame).mean()) + 1e-10)
      self._levels.append(level)
      room = float(np.quantile(self._levels, 0.01))
      self._recent.append(level > max(room + self._above, self._least))
    return self.speaks
