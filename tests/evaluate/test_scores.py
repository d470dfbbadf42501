"""Scores: edit distance against jiwer, intervals that are seeded and cover, normalisation."""

import random

import numpy as np
import pytest

from omni_jax.evaluate import scores

WORDS = ["a", "bee", "sees", "the", "red", "sea", "and", "me"]


def sentences(seed, count):
  draw = random.Random(seed)
  return [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(count)]


def test_word_errors_equal_jiwer():
  jiwer = pytest.importorskip("jiwer")
  references, hypotheses = sentences(0, 40), sentences(1, 40)

  errors = scores.word_errors(references, hypotheses)

  assert errors.score.value == pytest.approx(jiwer.wer(references, hypotheses))
  assert scores.character_errors(references, hypotheses).score.value == pytest.approx(jiwer.cer(references, hypotheses))


def test_edit_distance_is_symmetric_and_bounded():
  for reference, hypothesis in zip(sentences(2, 30), sentences(3, 30), strict=True):
    first, second = reference.split(), hypothesis.split()
    distance = scores.edit_distance(first, second)
    assert distance == scores.edit_distance(second, first)
    assert abs(len(first) - len(second)) <= distance <= max(len(first), len(second))
    assert scores.edit_distance(first, first) == 0
  assert scores.edit_distance(["a", "b"], []) == 2


def test_normalise_folds_case_punctuation_and_spelling():
  assert scores.normalise("What COLOUR, is it?") == "what color is it"
  assert scores.normalise("it's_here") == "it's here"


def test_failed_answers_are_wrong():
  assert not scores.same_text("red", "")
  assert scores.same_text("Red.", "red")


def test_interval_is_seeded_and_holds_the_value():
  values = np.random.default_rng(0).random(100) < 0.8
  first, second = scores.mean(values), scores.mean(values)
  assert first == second
  assert first.low <= first.value <= first.high
  assert first.n == 100
  # The normal approximation of the same interval, to within a point.
  half = 1.96 * np.sqrt(first.value * (1 - first.value) / 100)
  assert first.low == pytest.approx(first.value - half, abs=0.015)


def test_interval_covers_the_truth_about_as_often_as_it_says():
  draw = np.random.default_rng(1)
  covered = [score.low <= 0.7 <= score.high for score in (scores.mean(draw.random(60) < 0.7) for _ in range(100))]
  assert 0.85 <= np.mean(covered) <= 1.0


def test_paired_difference_of_equal_sides_is_nothing():
  errors = scores.word_errors(sentences(4, 20), sentences(5, 20))
  difference = scores.paired_difference(errors, errors)
  assert (difference.value, difference.low, difference.high) == (0, 0, 0)
