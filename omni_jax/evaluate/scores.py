"""Figures: error rates and accuracies, each with its number of samples and a seeded bootstrap interval.

The samples that are drawn again are utterances or questions, so an interval says how much the figure would move with
other sentences of the same kind; it says nothing about another training seed.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_LEVEL = 0.95
_RESAMPLES = 1000
_SEED = 0

# The independent recogniser writes American English; both sides are folded the same way before they are compared.
_SPELLING = {"colour": "color", "colours": "colors", "grey": "gray", "centre": "center"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """A figure in [0, 1] (an error rate may exceed 1) with its 95 % interval and the number of samples behind it."""

  value: float
  low: float
  high: float
  n: int

  def to_json(self) -> dict[str, Any]:
    """Returns the four numbers, rounded to four digits."""
    return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4), "n": self.n}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Errors:
  """Edit errors and reference length of every sample, in tokens of one kind (words, characters, phones)."""

  errors: tuple[int, ...]
  lengths: tuple[int, ...]

  @property
  def score(self) -> Score:
    """All errors over all reference tokens, samples drawn again with replacement."""
    return ratio(self.errors, self.lengths)


def normalise(text: str) -> str:
  """Returns lower-case words without punctuation, in one spelling: `What COLOUR?` gives `what color`."""
  words: list[str] = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())
  return " ".join(_SPELLING.get(word, word) for word in words)


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
  """Returns the fewest insertions, deletions and substitutions that turn one sequence into the other."""
  row = np.arange(len(hypothesis) + 1)
  ids: dict[str, int] = {}
  other = np.array([ids.setdefault(token, len(ids)) for token in hypothesis], np.int64)
  offsets = np.arange(len(hypothesis) + 1)
  for token in reference:
    best = row + 1
    best[1:] = np.minimum(best[1:], row[:-1] + (other != ids.get(token, -1)))
    # An insertion chain: row[j] = min over i <= j of best[i] + (j - i).
    row = np.minimum.accumulate(best - offsets) + offsets
  return int(row[-1])


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
  """Returns word errors of each pair after `normalise`; the sum over samples equals jiwer's count."""
  return _errors([normalise(text).split() for text in references], [normalise(text).split() for text in hypotheses])


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
  """Returns character errors of each pair after `normalise`; a space counts as a character."""
  return _errors([list(normalise(text)) for text in references], [list(normalise(text)) for text in hypotheses])


def phone_errors(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> Errors:
  """Returns phone errors of each pair of symbol sequences."""
  return _errors(references, hypotheses)


def same_text(reference: str, hypothesis: str) -> bool:
  """Whether two answers are the same words; an empty or failed answer never is."""
  return bool(normalise(hypothesis)) and normalise(reference) == normalise(hypothesis)


def mean(values: Sequence[float] | Sequence[bool]) -> Score:
  """Returns the mean of per-sample values (right = 1, wrong = 0) with its bootstrap interval."""
  return ratio(np.asarray(values, np.float64), np.ones(len(values)))


def ratio(numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray) -> Score:
  """Returns sum over sum with its bootstrap interval, whole samples drawn again."""
  top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
  assert len(top) == len(bottom) and len(top) > 0, "a figure needs at least one sample"
  draws = _draws(len(top))
  values = top[draws].sum(1) / np.maximum(bottom[draws].sum(1), 1e-9)
  low, high = _interval(values)
  return Score(value=float(top.sum() / max(bottom.sum(), 1e-9)), low=low, high=high, n=len(top))


def paired_difference(first: Errors, second: Errors) -> Score:
  """Returns error rate of `second` minus that of `first` on the same samples, drawn again together."""
  assert len(first.errors) == len(second.errors), "paired samples"
  draws = _draws(len(first.errors))
  rates = [
    np.asarray(side.errors, float)[draws].sum(1) / np.asarray(side.lengths, float)[draws].sum(1)
    for side in (first, second)
  ]
  low, high = _interval(rates[1] - rates[0])
  value = sum(second.errors) / sum(second.lengths) - sum(first.errors) / sum(first.lengths)
  return Score(value=value, low=low, high=high, n=len(first.errors))


def _errors(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> Errors:
  assert len(references) == len(hypotheses), "one hypothesis for each reference"
  assert all(references), "an error rate needs references that are not empty"
  pairs = zip(references, hypotheses, strict=True)
  return Errors(errors=tuple(edit_distance(*pair) for pair in pairs), lengths=tuple(map(len, references)))


def _draws(size: int) -> np.ndarray:
  return np.random.default_rng(_SEED).integers(0, size, (_RESAMPLES, size))


def _interval(values: np.ndarray) -> tuple[float, float]:
  low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
  return float(low), float(high)
