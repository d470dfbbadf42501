"""How long a text lasts in each voice and emotion, measured on recordings: a reading that skips words is too short.

    seconds = factor of gender and emotion x (seconds a letter x letters + seconds of every utterance)

The logarithm of what is left is close to normal, with a deviation of 0.08.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.core.styles import EMOTIONS, GENDERS, Style

LENGTHS_FILE = "lengths.json"  # in a folder of units
_KINDS = tuple(f"{gender}-{emotion}" for gender in GENDERS for emotion in EMOTIONS)
_SHORTEST = 0.04  # seconds; nothing that is said is shorter
_FEWEST = 50  # recordings that a fit needs
_ROUNDS = 5  # of fitting line and factors in turn; they hardly move after three
_LEAST_DEVIATION = 0.02


class Recording(NamedTuple):
  """What was said, how, and how long it lasts."""

  text: str
  style: Style
  seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
  """The law above.

  Attributes:
    per_letter: seconds of a letter.
    constant: seconds that every utterance has.
    factors: `gender-emotion` -> factor.
    deviation: of the logarithm of the seconds.
  """

  per_letter: float
  constant: float
  factors: Mapping[str, float]
  deviation: float

  def expected(self, text: str, style: Style) -> float:
    """Returns the seconds that `text` takes in `style`."""
    factor = self.factors[f"{style.gender}-{style.emotion}"]
    return max(_SHORTEST, factor * (self.per_letter * letters(text) + self.constant))

  def log_likelihood(self, text: str, style: Style, *, seconds: float) -> float:
    """Returns the log density of lasting so long, up to a constant."""
    apart = np.log(max(seconds, _SHORTEST) / self.expected(text, style)) / self.deviation
    return float(-0.5 * apart**2)

  def save(self, path: Path) -> None:
    """Writes the numbers as JSON, whole or not at all."""
    write_whole(path, json.dumps(dataclasses.asdict(self), indent=1))

  @classmethod
  def load(cls, path: Path) -> "Lengths":
    """Returns what `save` wrote.

    Raises:
      UserError: the file holds something else.
    """
    try:
      found = cls(**json.loads(path.read_text()))
      numbers = [found.per_letter, found.constant, found.deviation, *(found.factors[name] for name in _KINDS)]
      if not np.isfinite(numbers).all() or found.deviation <= 0:
        raise ValueError("a number that is not finite, or a deviation that is not positive")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
      raise UserError(
        f"cannot read the lengths of texts ({error})",
        where=path,
        rule=f"a file written by `omni encode`, with a factor for each of {', '.join(_KINDS)}",
        remedy="run `omni encode` again",
      ) from error
    return found


def letters(text: str) -> int:
  """Returns how many letters (of any script) a text has."""
  return sum(character.isalpha() for character in text)


def fit(recordings: Iterable[Recording]) -> Lengths | None:
  """Returns the law of these recordings; None if there are too few of them, or an emotion of a gender has none."""
  rows = [row for row in recordings if row.seconds and letters(row.text)]
  kinds = np.array([_KINDS.index(f"{row.style.gender}-{row.style.emotion}") for row in rows], int)
  if len(rows) < _FEWEST or len(set(kinds)) < len(_KINDS):
    return None
  given = np.array([[letters(row.text), 1.0] for row in rows])
  seconds = np.array([row.seconds for row in rows], float)
  factors = np.ones(len(_KINDS))
  for _ in range(_ROUNDS):
    line = np.linalg.lstsq(given * factors[kinds, None], seconds, rcond=None)[0]
    plain = given @ line
    factors = np.array([seconds[kinds == kind].sum() / plain[kinds == kind].sum() for kind in range(len(_KINDS))])
  apart = np.log(seconds / np.maximum(factors[kinds] * (given @ line), _SHORTEST))
  return Lengths(
    per_letter=float(line[0]),
    constant=float(line[1]),
    factors=dict(zip(_KINDS, factors.tolist(), strict=True)),
    deviation=max(float(apart.std()), _LEAST_DEVIATION),
  )
