import dataclasses

import numpy as np
import pytest

from omni_jax.batches.survey import described, leak_lines, leaks, survey
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.schema import Example, Turn
from tests.batches.conftest import examples, picture


@pytest.fixture
def draw():
  return np.random.default_rng(0)


def test_records_are_counted_and_measured(draw):
  sound = encode_flac(np.zeros(24_000, np.float32))
  spoken = [
    Example(f"s{i}", "speech", (Turn("user", "The Cat.", audio=sound, style=style, voice="a:b"),))
    for i, style in enumerate(("female-sad-low", "female-sad-low", "male-happy-low"))
  ]
  found = survey("units/speech/train", spoken, count_tokens=len)
  assert (found.records, found.turns, found.seconds) == (3, 3, 4.5)
  assert found.tasks == {"speech": 3} and found.voices == {"a:b": 3}
  assert found.lengths["text tokens"] == [8, 8, 8] and found.lengths["words"] == [2, 2, 2]
  text = "\n".join(described(found))
  for line in ("3 records, 3 turns; speech 3", "female 67%, male 33%", "occurs 2.0 times", "1 different in 3 records"):
    assert line in text
  assert found.twice == [["s0", "s1", "s2"]] and "2 records are copies" in text
  encoded = survey("x", examples("dialogue", draw))
  assert encoded.seconds == sum(encoded.lengths["units"]) / 25 and "heard" in "\n".join(described(encoded))


def test_images_are_measured(draw):
  records = examples("caption", draw)
  found = survey("corpus/images/train", records)
  assert found.images == 20 and min(found.pixels) >= 64
  assert "images: 20" in "\n".join(described(found))


def test_what_leaks_is_found_whatever_its_case_and_signs(draw):
  image, other = picture(draw), picture(draw)
  turns = (Turn("user", "What is it?"), Turn("assistant", "a dog"))
  train = survey("a/train", [
    Example("1", "visual_question", turns, image),
    Example("2", "visual_question", turns, other),
    Example("3", "text", (Turn("user", "Hello, World!"),)),
  ])  # fmt: skip
  shout = tuple(dataclasses.replace(turn, text=turn.text.upper()) for turn in turns)
  test = survey("a/test", [
    Example("7", "visual_question", shout, image),
    Example("8", "visual_question", (Turn("user", "which"), Turn("assistant", "cat")), other),
    Example("9", "text", (Turn("user", "hello world"),)),
    Example("10", "text", (Turn("user", "hello, word"),)),
  ])  # fmt: skip
  assert leaks(train, test) == {"sample": [("1", "7"), ("3", "9")], "image": [("1", "7"), ("2", "8")],
                                "words": [("3", "9")]}  # fmt: skip
  lines = leak_lines(train, test)
  assert len(lines) == 3 and "share 2 of 4 samples: 1 = 7, 3 = 9" in lines[0]
  assert leak_lines(train, survey("b/test", examples("text", draw))) == []
