import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare import scenes, sentences
from omni_jax.prepare.phonemes import PHONES, phones


def test_marks_are_dropped_and_words_told_apart():
  assert phones("blue square") == ("b", "l", "u", "s", "k", "w", "e@")
  assert phones("red") != phones("bed")


def test_the_whole_world_can_be_pronounced():
  for word in sorted(sentences.words() | scenes.words()):
    assert set(phones(word)) <= set(PHONES)


def test_nothing_to_pronounce_is_told():
  with pytest.raises(UserError, match="nothing to pronounce"):
    phones("...")
