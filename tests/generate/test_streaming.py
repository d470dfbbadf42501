import numpy as np
import pytest

from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.streaming import ReplyStream, Stopwatch
from omni_jax.tokens.answers import Reply


@pytest.mark.parametrize("block", [1, 3, 8, 100])
@pytest.mark.parametrize("text", ["the dog is old and new", "é中文🙂"])
def test_pieces_together_are_the_reply(dialogue, speech, block, text):
  units = np.random.default_rng(0).integers(0, 64, 40).astype(np.int32)
  reply = Reply(text=text, style=ALL_STYLES[9], units=units, heard_text="the star")
  ids = np.array(dialogue.layout.encode(reply, vocabulary=dialogue.vocabulary, tokenizer=dialogue.tokenizer))
  stream = ReplyStream(dialogue, vocoder=speech["vocoder"], style=None)
  pieces = [piece for start in range(0, len(ids), block) for piece in stream.push(ids[start : start + block])]
  before_end = sum(piece.samples is not None for piece in pieces)
  pieces += list(stream.finish())
  assert "".join(piece.text for piece in pieces) == text
  assert "".join(piece.heard_text for piece in pieces) == "the star"
  assert [piece.style for piece in pieces if piece.style] == [ALL_STYLES[9]]
  sound = np.concatenate([piece.samples for piece in pieces if piece.samples is not None])
  np.testing.assert_array_equal(sound, speech["vocoder"].decode(units, ALL_STYLES[9]))
  assert before_end >= (2 if block < 10 else 1), "sound comes before the end"


def test_a_given_style_speaks_at_once(dialogue, speech):
  stream = ReplyStream(dialogue, vocoder=speech["vocoder"], style=ALL_STYLES[2])
  pieces = list(stream.push(dialogue.vocabulary.unit_ids[[4, 5, 6]]))
  assert len(pieces) == 1 and pieces[0].samples is not None and len(pieces[0].samples) == 200


def test_a_unit_that_is_said_again_at_once_is_one_as_in_the_whole_answer(dialogue, speech):
  stream = ReplyStream(dialogue, vocoder=speech["vocoder"], style=ALL_STYLES[2])
  pieces = [piece for units in ([4, 4, 5], [5, 6]) for piece in stream.push(dialogue.vocabulary.unit_ids[units])]
  sound = np.concatenate([piece.samples for piece in [*pieces, *stream.finish()] if piece.samples is not None])
  np.testing.assert_array_equal(sound, speech["vocoder"].decode(np.array([4, 5, 6], np.int32), ALL_STYLES[2]))


def test_a_stopwatch_adds_up():
  watch = Stopwatch()
  for _ in range(2):
    with watch.stage("think"):
      sum(range(300_000))
  assert list(watch.iterate("list", iter([1, 2]))) == [1, 2]
  assert watch.seconds["think"] > 0 and set(watch.rounded()) == {"think", "list"}


def test_bytes_of_a_character_that_never_comes_whole_are_told_at_the_end(dialogue):
  byte = next(i for i in range(300) if dialogue.tokenizer.decode([i]) == "\ufffd")
  stream = ReplyStream(dialogue, vocoder=None, style=None)
  ids = np.array([*dialogue.tokenizer.encode("the dog"), byte], np.int32)
  told = "".join(piece.text for piece in stream.push(ids))
  assert told == "the dog" and "".join(piece.text for piece in stream.finish()) == "\ufffd"
