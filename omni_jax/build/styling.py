"""In which style a turn is said: judges, of whom a rule is one."""

import dataclasses
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from omni_jax.core.styles import PITCHES, Style
from omni_jax.prepare.schema import Example
from omni_jax.prepare.sentences import reply_style

Judgement = Callable[[Example, Sequence[str]], Sequence[Style]]

_SIGNS = {
  "happy": r"great|wonderful|love|thanks?|thank you|excited|awesome|fantastic|amazing|yay|glad|happy|congratulations|"
  r"delighted|hooray|best day|太好了|开心|高兴|谢谢|喜欢|太棒",
  "sad": r"sad|sorry|unfortunately|miss you|lost|died|passed away|cry|crying|lonely|disappointed|depressed|heartbroken|"
  r"难过|伤心|可惜|失望|去世|孤独",
  "angry": r"angry|hate|furious|annoyed|annoying|ridiculous|terrible|worst|outrageous|unacceptable|"
  r"生气|讨厌|愤怒|可恶|太过分",
}
_EMOTIONS = {name: re.compile(rf"(?<![a-z])(?:{words})(?![a-z])") for name, words in _SIGNS.items()}
_PITCH = {"happy": "high", "sad": "low", "angry": "normal"}


class Judge(Protocol):
  """Decides in which style each turn is said: a frozen dataclass that goes to other processes."""

  def open(self) -> Judgement:
    """Returns the function, with its models loaded; called once in each process.

    It takes a record and the gender of each of its turns, and returns as many styles.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordJudge:
  """The rule: words tell the emotion of what a user says, and the answer replies to it, calm towards anger.

  Where words tell nothing or disagree the emotion is neutral, and the pitch any, by a hash of the record's id. EMOVA
  asked GPT-4o instead (arXiv 2409.18042).

  Attributes:
    emotional: whether other emotions than the neutral one are said; not every voice has them.
  """

  emotional: bool = True

  def open(self) -> Judgement:
    """Returns the rule."""
    return self._judge

  def _judge(self, example: Example, genders: Sequence[str]) -> list[Style]:
    styles: list[Style] = []
    for place, (turn, gender) in enumerate(zip(example.turns, genders, strict=True)):
      if turn.role == "assistant" and styles and self.emotional:
        styles.append(dataclasses.replace(reply_style(styles[-1]), gender=gender))
        continue
      emotion = emotion_of(turn.text) if self.emotional else "neutral"
      any_pitch = PITCHES[zlib.crc32(f"{example.id}/{place}".encode()) % len(PITCHES)]
      styles.append(Style(gender, emotion, _PITCH.get(emotion, any_pitch)))
    return styles


BY_WORDS = WordJudge()


def emotion_of(text: str) -> str:
  """Returns the emotion that the words of a text tell: the one with most of them, `neutral` where none leads."""
  plain = text.lower()
  counts = sorted(((len(pattern.findall(plain)), name) for name, pattern in _EMOTIONS.items()), reverse=True)
  (most, name), (second, _) = counts[:2]
  return name if most > second else "neutral"
