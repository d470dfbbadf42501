"""A text and a style -> units: several readings are drawn, and the one that the model itself understands best is kept.

A small model that writes units greedily skips words and says others twice. It recognises speech far better than it
makes it, so it judges its own readings: the text's likelihood given the units (a noisy channel), as Tortoise
(arXiv 2305.07243) ranks readings by a second model.
"""

from collections.abc import Sequence

import jax
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.engine import Engine, Prompt
from omni_jax.generate.sampling import Sampling
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.units import reduce_units

_GREEDY, _DRAWN = Sampling(), Sampling(temperature=0.7, top_p=0.9)


class Reader:
  """Writes the units of texts."""

  def __init__(self, engine: Engine, *, dialogue: Dialogue, max_new_tokens: int):
    """Keeps the parts.

    Args:
      engine: the model; how it samples does not matter here.
      dialogue: writes prompts.
      max_new_tokens: a reading that has not ended is cut here.
    """
    self._engine, self._dialogue, self._max_new_tokens = engine, dialogue, max_new_tokens

  def read(self, texts: Sequence[tuple[str, Style]], *, readings: int) -> list[np.ndarray]:
    """Returns the ids of the best of `readings` readings of each text: the greedy one, the others drawn.

    Raises:
      UserError: a text without words, or no reading asked for.
    """
    for text, _ in texts:
      if not text.strip():
        raise UserError("empty text", where="synthesis", rule="a text has words", remedy="give something to say")
    if readings < 1:
      raise UserError(f"{readings} readings", where="synthesis", rule="at least one", remedy="for example 8")
    found = self._draw(texts, _GREEDY, times=1)
    if readings == 1:
      return found
    found += self._draw(texts, _DRAWN, times=readings - 1)
    asked = list(texts) * readings
    scores = np.reshape(self._understood(found, asked), (readings, len(texts)))
    return [found[best * len(texts) + row] for row, best in enumerate(scores.argmax(axis=0))]

  def _draw(self, texts: Sequence[tuple[str, Style]], sampling: Sampling, *, times: int) -> list[np.ndarray]:
    """Returns `times` readings of every text, one round after the other."""
    prompts = [
      Prompt(tokens=np.asarray(self._dialogue.synthesis_prompt(text, style), np.int32), state="voice")
      for text, style in texts
    ]
    key = jax.random.key(0)
    return self._engine.generate(prompts * times, max_new_tokens=self._max_new_tokens, key=key, sampling=sampling)

  def _understood(self, readings: Sequence[np.ndarray], asked: Sequence[tuple[str, Style]]) -> np.ndarray:
    """Returns the log likelihood of each text given its reading; one that was cut, or is empty, is understood least."""
    heard, said = [], []
    for ids, (text, style) in zip(readings, asked, strict=True):
      units = reduce_units(self._dialogue.read_units(ids))[0]
      heard.append(self._dialogue.recognition_prompt(Question(units=units, style=style)))
      said.append(self._dialogue.transcript(text))
    scores = self._engine.log_likelihood(heard, said)
    complete = [0 < len(ids) < self._max_new_tokens for ids in readings]
    return np.where(complete, scores, scores - 1e6)
