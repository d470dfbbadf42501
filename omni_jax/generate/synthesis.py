"""A text and a style -> units: several readings are drawn, and the one that the model itself likes best is kept.

A small model that writes units greedily skips words and says others twice. It recognises speech far better than it
makes it, so it judges its own readings, as Tortoise (arXiv 2305.07243) ranks readings by a second model: by how likely
the text is given the units, with less weight how likely the units are given text and style (a noisy channel with its
direct model, as in arXiv 1910.00553), and how likely it is to last as long as the vocoder
would make it (`speech.lengths`). The first alone would take clear for right, and sad or angry for neutral.
"""

from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.engine import Engine, prompt_of
from omni_jax.generate.exchange import check_words
from omni_jax.generate.sampling import Sampling
from omni_jax.speech.interface import Vocoder
from omni_jax.speech.lengths import Lengths
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.units import reduce_units

_DIRECT_WEIGHT = 0.3  # of the units' likelihood: 0.2 to 0.5 do the same (docs/decisions.md)
_GREEDY, _DRAWN = Sampling(), Sampling(temperature=0.7, top_p=0.9)


class Script(Protocol):
  """How a system is asked to say and to write down, as ids."""

  @property
  def said_state(self) -> str:
    """The state of the automaton in which units begin."""
    ...

  def ask_to_say(self, text: str, style: Style) -> list[int]:
    """Returns the request to say a text, up to where the units begin."""
    ...

  def ask_to_write(self, units: np.ndarray, style: Style | None) -> list[int]:
    """Returns the request to write down units said in a style, up to where the text begins."""
    ...

  def written(self, text: str) -> list[int]:
    """Returns the ids that answer a request to write down, the end among them."""
    ...

  def said(self, ids: np.ndarray) -> np.ndarray:
    """Returns the units int32 [N] of the ids that answer a request to say."""
    ...

  def read(self, ids: np.ndarray) -> str:
    """Returns the text of the ids that answer a request to write down."""
    ...

  @property
  def end(self) -> int:
    """The id behind an answer."""
    ...


class DialogueScript:
  """The requests of EMOVA's dialogues."""

  said_state = "voice"

  def __init__(self, dialogue: Dialogue):
    """Keeps the writer of prompts."""
    self._dialogue, self.end = dialogue, dialogue.vocabulary.control("end")
    self.ask_to_say, self.written = dialogue.synthesis_prompt, dialogue.transcript
    self.said, self.read = dialogue.read_units, dialogue.read_text

  def ask_to_write(self, units: np.ndarray, style: Style | None) -> list[int]:
    """Returns the request to write down units said in a style."""
    return self._dialogue.recognition_prompt(Question(units=units, style=style))


class Reader:
  """Writes the units of texts."""

  def __init__(
    self,
    engine: Engine,
    *,
    script: Script,
    max_new_tokens: int,
    vocoder: Vocoder | None = None,
    lengths: Lengths | None = None,
  ):
    """Keeps the parts.

    Args:
      engine: the model; how it samples does not matter here.
      script: writes prompts.
      max_new_tokens: a reading that has not ended is cut here.
      vocoder: says how long units last.
      lengths: how long texts last; without these two the length of a reading is not judged.
    """
    self._engine, self._script, self._max_new_tokens = engine, script, max_new_tokens
    self._vocoder, self._lengths = vocoder, lengths

  def read(self, texts: Sequence[tuple[str, Style]], *, readings: int) -> list[np.ndarray]:
    """Returns the ids of the best of `readings` readings of each text: the greedy one, the others drawn.

    Raises:
      UserError: a text without words, or no reading asked for.
    """
    check_words(text for text, _ in texts)
    if readings < 1:
      raise UserError(f"{readings} readings", where="synthesis", rule="at least one", remedy="for example 8")
    found = self._draw(texts, _GREEDY, times=1)
    if readings == 1 or not found:
      return found
    found += self._draw(texts, _DRAWN, times=readings - 1)
    asked = list(texts) * readings
    scores = np.reshape(self._judge(found, asked), (readings, len(texts)))
    return [found[best * len(texts) + row] for row, best in enumerate(scores.argmax(axis=0))]

  def _draw(self, texts: Sequence[tuple[str, Style]], sampling: Sampling, *, times: int) -> list[np.ndarray]:
    """Returns `times` readings of every text, one round after the other."""
    prompts = [prompt_of(self._script.ask_to_say(*text), state=self._script.said_state) for text in texts]
    key = jax.random.key(0)
    return self._engine.generate(prompts * times, max_new_tokens=self._max_new_tokens, key=key, sampling=sampling)

  def _judge(self, readings: Sequence[np.ndarray], asked: Sequence[tuple[str, Style]]) -> np.ndarray:
    """Returns the score of each reading of its text, float [N]; one that was cut, or is empty, has the lowest."""
    units = [reduce_units(self._script.said(ids))[0] for ids in readings]
    heard, said, prompts, written = [], [], [], []
    for ids, row, (text, style) in zip(readings, units, asked, strict=True):
      heard.append(self._script.ask_to_write(row, style))
      said.append(self._script.written(text))
      prompts.append(self._script.ask_to_say(text, style))
      written.append([*ids, self._script.end])
    scores = self._engine.log_likelihood(heard, said) + _DIRECT_WEIGHT * self._engine.log_likelihood(prompts, written)
    if self._vocoder and self._lengths:
      lasting = self._vocoder.seconds(units, [style for _, style in asked])
      fitting = [self._lengths.log_likelihood(*pair, seconds=time) for pair, time in zip(asked, lasting, strict=True)]
      scores = scores + np.array(fitting)
    # One that was closed at the limit did not end by itself.
    complete = [0 < len(ids) < self._max_new_tokens - 1 for ids in readings]
    return np.where(complete, scores, scores - 1e6)
