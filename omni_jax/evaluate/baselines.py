"""What a figure is worth: the same measure for a system that guesses, or that always says the most common thing.

Both know the training answers and nothing of the question or the recording at hand.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from omni_jax.evaluate import scores
from omni_jax.evaluate.scores import Errors, Score

_SEED = 1


def most_common(answers: Sequence[str]) -> str:
  """Returns the most frequent answer; of equally frequent ones the first in the alphabet."""
  counts = Counter(answers)
  return min(counts, key=lambda answer: (-counts[answer], answer))


def majority_accuracy(training: Sequence[str], references: Sequence[str]) -> Score:
  """Returns the accuracy of always giving the most common training answer."""
  answer = most_common(training)
  return scores.mean([answer == reference for reference in references])


def chance_accuracy(training: Sequence[str], references: Sequence[str]) -> float:
  """Returns the expected accuracy of drawing an answer evenly among the different training answers."""
  allowed = set(training)
  return sum(reference in allowed for reference in references) / len(allowed) / len(references)


def majority_by_kind(training: Sequence[tuple[str, str]], references: Sequence[tuple[str, str]]) -> tuple[Score, float]:
  """Returns majority and chance accuracy when the kind of question is known, as a fair guesser knows it.

  Args:
    training: (kind, answer) of the training questions.
    references: (kind, answer) of the test questions; a kind that training lacks is never guessed right.
  """
  answers: Mapping[str, list[str]] = defaultdict(list)
  for kind, answer in training:
    answers[kind].append(answer)
  common = {kind: most_common(given) for kind, given in answers.items()}
  right = [common.get(kind) == answer for kind, answer in references]
  chances = [(answer in answers[kind]) / max(len(set(answers[kind])), 1) for kind, answer in references]
  return scores.mean(right), float(np.mean(chances))


def majority_errors(
  training: Sequence[str], references: Sequence[str], *, measure: Callable[..., Errors] = scores.word_errors
) -> Errors:
  """Returns the errors of always writing the most common training transcript."""
  answer = most_common(training)
  return measure(references, [answer] * len(references))


def chance_errors(references: Sequence[Any], *, measure: Callable[..., Errors] = scores.word_errors) -> Errors:
  """Returns the errors of answering each recording with the transcript of another one, drawn by a fixed seed."""
  order = np.random.default_rng(_SEED).permutation(len(references))
  # A cycle over a random order: nobody gets their own transcript unless there is only one.
  other = {int(place): int(order[(index + 1) % len(order)]) for index, place in enumerate(order)}
  return measure(references, [references[other[index]] for index in range(len(references))])
