import dataclasses

import numpy as np
import pytest
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import Example, Turn, features, from_bytes, from_record, to_bytes, to_record, validate

SOUND = b"fLaC" + bytes(range(20))


def dialogue(**changes):
  turns = (
    Turn("user", "what color is the sky", audio=SOUND, units=[1, 1, 7], style="female-sad-low", phones="w V t"),
    Turn("assistant", "the sky is blue", audio=SOUND + b"x", units=np.arange(5), heard="male-happy-high", voice="a:b"),
  )
  turns = (turns[0], dataclasses.replace(turns[1], unit_frames=[3, 2, 6, 4, 5]))
  return dataclasses.replace(Example("d/1", "dialogue", turns), **changes)


def test_a_record_comes_back_from_its_serialized_form():
  example = dialogue()
  layout = features()
  data = layout.serialize_example(layout.encode_example(to_record(example)))
  assert from_record(layout.deserialize_example_np(data)) == example


@pytest.mark.parametrize(
  "example",
  [
    dialogue(),
    Example("ü", "text", (Turn("assistant", "你好 😀"),)),
    Example("i", "caption", (Turn("user", ""), Turn("assistant", "a dog")), image=b"\x89PNG\0"),
  ],
)
def test_the_bytes_are_those_of_tensorflow_datasets(example):
  layout = features()
  serializer = ExampleSerializer(layout.get_serialized_info())
  expected = serializer.get_tf_example(layout.encode_example(to_record(example)))
  assert to_bytes(example) == expected.SerializeToString(deterministic=True)
  assert from_bytes(to_bytes(example)) == from_record(layout.deserialize_example_np(to_bytes(example))) == example


def test_bytes_that_are_no_whole_record_are_refused():
  layout = features()
  record = to_record(dialogue())
  for changes in ({"audio": b"fLaC"}, {"units": record["units"][:-1]}):
    with pytest.raises(ValueError, match="are stated"):
      from_bytes(layout.serialize_example(layout.encode_example(record | changes)))
  with pytest.raises(KeyError, match="id"):
    from_bytes(b"")


def test_records_without_frames_can_be_read():
  example = dialogue()
  record = to_record(example)
  record["unit_counts"] = record["unit_counts"][:2]
  assert [turn.unit_frames.tolist() for turn in from_record(record).turns] == [[], []]
  assert from_record(record).turns[1].units.tolist() == example.turns[1].units.tolist()


def test_equality_sees_units_and_sound():
  example = dialogue()
  assert example == dialogue()
  for change in ({"units": [1, 1, 8]}, {"unit_frames": [8]}, {"audio": b""}):
    changed = dataclasses.replace(example.turns[0], **change)
    assert example != dialogue(turns=(changed, example.turns[1]))


def test_text_without_sound_is_valid():
  validate(Example("t", "text", (Turn("assistant", "hello"),)))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"id": ""}, "empty id"),
    ({"task": "dance"}, "unknown task"),
    ({"turns": ()}, "no turns"),
    ({"task": "speech"}, "2 turns"),
    ({"image": b"png"}, "image: True"),
    ({"task": "spoken_visual_question"}, "image: False"),
    ({"turns": (Turn("robot", "hi", audio=SOUND),)}, "unknown role"),
    ({"turns": (Turn("user", " ", audio=SOUND),)}, "empty text"),
    ({"turns": (Turn("user", "hi", audio=b"RIFF"),)}, "audio starts"),
    ({"turns": (Turn("user", "hi"),)}, "a turn without sound"),
    ({"turns": (Turn("user", "hi", audio=SOUND, style="female-bored-low"),)}, "unknown emotion"),
  ],
)
def test_broken_records_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    validate(dialogue(**changes))
