import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.tokens.answers import JsonLayout, NativeLayout, Reply

TEXTS = ("red", "the dog is old", 'she said "no" \\ {é}\n<|speech_5|>', "a b c d e f g h i j")


def replies():
  draw = np.random.default_rng(0)
  for index, text in enumerate(TEXTS * 6):
    units = draw.integers(0, 64, draw.integers(1, 30)).astype(np.int32)
    heard = "" if index % 3 == 0 else TEXTS[index % 4]
    yield Reply(text=text, style=ALL_STYLES[index], units=units, heard_text=heard, heard_style=ALL_STYLES[index])


@pytest.mark.parametrize("chunks", [(1, 1), (2, 3), (4, 12), (100, 1)])
def test_native_layout_reads_what_it_wrote(vocabulary, tokenizer, chunks):
  layout = NativeLayout(text_chunk=chunks[0], unit_chunk=chunks[1])
  for reply in replies():
    ids = layout.encode(reply, vocabulary=vocabulary, tokenizer=tokenizer)
    again = layout.decode(ids, vocabulary=vocabulary, tokenizer=tokenizer)
    assert (again.text, again.heard_text, again.style, again.problem) == (reply.text, reply.heard_text, reply.style, "")
    np.testing.assert_array_equal(again.units, reply.units)


def test_json_layout_reads_what_it_wrote(vocabulary, tokenizer):
  for reply in replies():
    layout = JsonLayout(gender=reply.style.gender)
    ids = layout.encode(reply, vocabulary=vocabulary, tokenizer=tokenizer)
    again = layout.decode(ids, vocabulary=vocabulary, tokenizer=tokenizer)
    assert (again.text, again.heard_text, again.style, again.problem) == (reply.text, reply.heard_text, reply.style, "")
    assert again.heard_style == Style(reply.style.gender, reply.heard_style.emotion, reply.heard_style.pitch)
    np.testing.assert_array_equal(again.units, reply.units)


@pytest.mark.parametrize("layout", [NativeLayout(text_chunk=2, unit_chunk=3), JsonLayout()])
def test_a_written_reply_is_its_text(vocabulary, tokenizer, layout):
  ids = layout.encode(Reply(text="the dog"), vocabulary=vocabulary, tokenizer=tokenizer)
  assert ids == tokenizer.encode("the dog")
  again = layout.decode(ids, vocabulary=vocabulary, tokenizer=tokenizer)
  assert again.text == "the dog" and again.style is None and not again.problem and not len(again.units)


def test_interleaving_alternates_and_ends_with_units():
  layout = NativeLayout(text_chunk=2, unit_chunk=3)
  assert layout.interleave([1, 2, 3], [51, 52, 53, 54, 55, 56, 57]) == [1, 2, 51, 52, 53, 3, 54, 55, 56, 57]
  assert layout.interleave([1, 2, 3, 4, 5], [51, 52, 53, 54]) == [1, 2, 51, 52, 53, 3, 4, 5, 54]
  assert layout.interleave([1, 2, 3], [51]) == [1, 2, 3, 51]


def test_reading_broken_native_answers_never_fails_and_tells(vocabulary, tokenizer):
  layout = NativeLayout(text_chunk=2, unit_chunk=3)
  draw = np.random.default_rng(1)
  for _ in range(200):
    ids = draw.integers(0, vocabulary.size, draw.integers(0, 20)).tolist()
    layout.decode(ids, vocabulary=vocabulary, tokenizer=tokenizer)
  reply = next(replies())
  ids = layout.encode(reply, vocabulary=vocabulary, tokenizer=tokenizer)
  for broken, problem in (
    (ids[3:], "units without a style"),
    ([*ids, ids[0]], "style tokens out of place"),
    ([*ids, vocabulary.control("heard")], "control tokens out of place"),
    (ids[:3], "a style without units; no text"),
    ([*ids[:3], vocabulary.control("heard"), *ids[3:]], "the transcript does not end; "),
  ):
    assert problem in layout.decode(broken, vocabulary=vocabulary, tokenizer=tokenizer).problem


def test_cut_json_is_repaired_and_reported(vocabulary, tokenizer):
  reply = list(replies())[5]
  ids = JsonLayout().encode(reply, vocabulary=vocabulary, tokenizer=tokenizer)
  places = np.flatnonzero(np.asarray(ids) >= vocabulary.text_size)
  cut = JsonLayout().decode(ids[: places[-1] + 1], vocabulary=vocabulary, tokenizer=tokenizer)
  assert cut.text == reply.text and cut.problem.startswith("not JSON")
  np.testing.assert_array_equal(cut.units, reply.units)
  for end in range(len(ids)):
    JsonLayout().decode(ids[:end], vocabulary=vocabulary, tokenizer=tokenizer)
  bad_style = tokenizer.encode('{"assistant response text": "a", "assistant response emotion": "bored"')
  assert "unknown emotion 'bored'" in JsonLayout().decode(bad_style, vocabulary=vocabulary, tokenizer=tokenizer).problem


def test_chunks_are_positive():
  with pytest.raises(UserError, match="chunks of 0"):
    NativeLayout(text_chunk=0, unit_chunk=3)
