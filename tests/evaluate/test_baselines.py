"""Baselines: guessing and majority, by kind of question, and for transcripts."""

import pytest

from omni_jax.evaluate import baselines


def test_majority_and_chance_accuracy():
  training, references = ["red"] * 3 + ["blue"], ["red", "blue", "blue", "green"]
  assert baselines.majority_accuracy(training, references).value == 0.25
  # Even guessing between red and blue: half right on three of four questions.
  assert baselines.chance_accuracy(training, references) == pytest.approx(3 / 8)


def test_majority_ties_are_broken_by_the_alphabet():
  assert baselines.most_common(["b", "a"]) == baselines.most_common(["a", "b"]) == "a"


def test_majority_by_kind_knows_the_kind():
  training = [("colour", "red"), ("colour", "red"), ("colour", "blue"), ("count", "two")]
  references = [("colour", "red"), ("colour", "blue"), ("count", "two"), ("word", "sun")]
  majority, chance = baselines.majority_by_kind(training, references)
  assert majority.value == 0.5
  assert chance == pytest.approx((0.5 + 0.5 + 1 + 0) / 4)


def test_transcript_baselines():
  references = ["a b", "c d", "e f"]
  assert baselines.chance_errors(references).score.value == 1.0
  assert baselines.chance_errors(references) == baselines.chance_errors(references)
  assert baselines.majority_errors(["a b", "a b", "c d"], references).errors == (0, 2, 2)
