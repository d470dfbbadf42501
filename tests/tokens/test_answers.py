import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.tokens.answers import JsonLayout, NativeLayout, Reply
from omni_jax.tokens.text import encode_segments

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


KEYS = [f"user question {field}" for field in ("text", "emotion", "pitch")] + [
  f"assistant response {field}" for field in ("text", "emotion", "pitch", "speech")
]


def written(changes=None, *, without=(), order=None, units=(5, 9)):
  """An answer as another program may write it: text, then units, then text."""
  fields = dict(zip(KEYS, ("why", "sad", "low", "so", "happy", "high", "@"), strict=True)) | (changes or {})
  fields = {key: fields[key] for key in (order or fields) if key not in without}
  head, _, tail = json.dumps(fields, ensure_ascii=False).partition("@")
  return head, units, tail


def read(parts, vocabulary, tokenizer):
  ids = encode_segments([parts[0], vocabulary.unit_ids[list(parts[1])].tolist(), parts[2]], tokenizer)
  return JsonLayout(gender="male").decode(ids, vocabulary=vocabulary, tokenizer=tokenizer)


@pytest.mark.parametrize(
  ("word", "folded"),
  [("neutral", "neutral"), ("surprised", "happy"), ("disgusted", "angry"), ("fearful", "sad"), ("angry", "angry")],
)
def test_seven_emotions_are_read_as_four(released_vocabulary, released, word, folded):
  changes = {"assistant response emotion": word, "user question emotion": word}
  reply = read(written(changes), released_vocabulary, released)
  assert reply.problem == "" and reply.style == Style("male", folded, "high")
  assert reply.heard_style == Style("male", folded, "low")
  assert reply.condition == f"gender-male_emotion-{word}_speed-normal_pitch-high"
  again = JsonLayout(gender="male").encode(reply, vocabulary=released_vocabulary, tokenizer=released)
  assert f'"assistant response emotion": "{word}"' in released.decode(again)


def test_a_speed_is_read_wherever_it_stands(released_vocabulary, released):
  speed = {"assistant response speed": "fast"}
  early = [*KEYS[:6], "assistant response speed", KEYS[6]]
  for order in (early, [*KEYS, "assistant response speed"]):
    reply = read(written(speed, order=order), released_vocabulary, released)
    assert (reply.speed, reply.problem, reply.units.tolist()) == ("fast", "", [5, 9])
  ids = JsonLayout(gender="male").encode(reply, vocabulary=released_vocabulary, tokenizer=released)
  assert ids == encode_segments(
    [
      part if isinstance(part, str) else released_vocabulary.unit_ids[list(part)].tolist()
      for part in written(speed, order=early)
    ],
    released,
  )
  odd = read(written({"assistant response speed": "warp"}, order=early), released_vocabulary, released)
  assert odd.speed == "normal" and odd.problem == "unknown speed 'warp'"


def test_strict_reading_wants_the_seven_keys(released_vocabulary, released):
  assert read(written(), released_vocabulary, released).problem == ""
  assert read(written(order=KEYS[3:6] + KEYS[:3] + KEYS[6:]), released_vocabulary, released).problem == ""
  for key in KEYS[:6]:
    reply = read(written(without=(key,)), released_vocabulary, released)
    assert "other keys" in reply.problem and reply.units.tolist() == [5, 9]
  assert "other keys" in read(written({"more": "x"}, order=["more", *KEYS]), released_vocabulary, released).problem
  assert "other keys" in read(written({KEYS[3]: 7}), released_vocabulary, released).problem
  swapped = written({KEYS[3]: "@", KEYS[6]: ""})
  assert "outside their field" in read(swapped, released_vocabulary, released).problem


def test_units_alone_are_spoken_neutrally(released_vocabulary, released):
  ids = released_vocabulary.unit_ids[[3, 4]].tolist()
  reply = JsonLayout().decode(ids, vocabulary=released_vocabulary, tokenizer=released)
  assert reply.units.tolist() == [3, 4] and reply.style == Style("female", "neutral", "normal") and reply.problem
  assert reply.condition == "gender-female_emotion-neutral_speed-normal_pitch-normal"


@pytest.mark.parametrize("end", ['"', "", '"}'])
def test_an_answer_without_its_end_is_read_whole(released_vocabulary, released, end):
  head, units, _ = written()
  reply = read((head, units, end), released_vocabulary, released)
  assert (reply.text, reply.heard_text, reply.units.tolist()) == ("so", "why", [5, 9])
  assert reply.style == Style("male", "happy", "high") and bool(reply.problem) == (end != '"}')


def test_chunks_are_positive():
  with pytest.raises(UserError, match="chunks of 0"):
    NativeLayout(text_chunk=0, unit_chunk=3)
