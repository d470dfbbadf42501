import json

import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.conversations import READING, Reading, example_of
from omni_jax.prepare.corpora.llava import Llava
from omni_jax.prepare.corpora.speech_instruct import SpeechInstruct
from omni_jax.prepare.schema import validate
from tests.prepare.corpora.fixtures import picture_bytes, read_all, write


def talk(*values, roles=("human", "gpt")):
  return [{"from": roles[place % 2], "value": value} for place, value in enumerate(values)]


def units(*numbers):
  return "".join(f"<|speech_{number}|>" for number in numbers)


def answer(text="I am glad.", *, speech="<|speech_5|><|speech_6|>", emotion="happy", pitch="high"):
  return json.dumps({
    "user question text": "How are you?", "user question emotion": "surprised", "user question pitch": "low",
    "assistant response text": text, "assistant response emotion": emotion, "assistant response pitch": pitch,
    "assistant response speech": speech,
  })  # fmt: skip


def read(conversation, image=b"", reading=READING):
  return validate(example_of("id", conversation, image=image, reading=reading))


def test_written_conversations():
  example = read(talk("Hi", "Hello", "Bye", "See you"))
  assert (example.task, [turn.role for turn in example.turns]) == ("text", ["user", "assistant"] * 2)
  assert read({"from": ["human", "gpt"], "value": ["Hi", "Hello"]}).turns == example.turns[:2]
  example = read(talk("<image>\nwhat is it", "a dog", "sure?", "yes"), picture_bytes())
  assert (example.task, example.turns[0].text) == ("visual_question", "what is it")
  example = read(json.dumps(talk("what\n<image>", "a dog")), picture_bytes(), Reading(image_task="caption"))
  assert (example.task, example.turns[0].text) == ("caption", "what")


def test_recognition_and_synthesis_are_one_kind_of_record():
  asked = "Please recognize the text corresponding to the follwing speech.\n"
  example = read(talk(asked + units(1, 2, 2), "the garden"))
  assert (example.task, example.turns[0].text, example.turns[0].units.tolist()) == ("speech", "the garden", [1, 2, 2])
  asked = "Please synthesize the speech corresponding to the follwing text.\n"
  assert read(talk(asked + "the garden", units(1, 2, 2))) == example


@pytest.mark.parametrize("image", [b"", picture_bytes()])
def test_spoken_dialogue(image):
  place = "<image>\n" if image else ""
  example = read(talk(f"{place}Please recognize ... speech:{units(3)}", answer()), image)
  assert example.task == ("spoken_visual_question" if image else "dialogue")
  user, reply = example.turns
  assert (user.text, user.units.tolist(), user.heard) == (
    "How are you?",
    [3],
    "female-happy-low",
  )  # seven emotions as four
  assert (reply.text, reply.units.tolist(), reply.style) == ("I am glad.", [5, 6], "female-happy-high")


@pytest.mark.parametrize(
  ("conversation", "message"),
  [
    ([], "empty conversation"),
    (None, "empty conversation"),
    ({}, "empty conversation"),
    ({"from": ["human", "gpt"], "value": ["hi"]}, "empty conversation"),
    ("{", "no JSON"),
    (["hi", "ho"], "no object"),
    (talk("hi"), "roles human"),
    (talk("hi", "ho", roles=("gpt", "human")), "roles gpt, human"),
    (talk("hi", "ho", roles=("human", "human")), "roles human, human"),
    (talk("hi", "ho", roles=("system", "gpt")), "roles system, gpt"),
    (talk("hi", " "), "no text"),
    (talk("", "ho"), "no text"),
    (talk("hi", 3), "no text: 3"),
    (talk("<image> hi", "ho"), "1 places for no image"),
    (talk(units(4096), "ho"), "unit 4096"),
    (talk("say\nho", units(10**30)), "unit 1000000"),
    (talk(units(1) + " and " + units(2), "ho"), "2 runs"),
    (talk(units(1), answer(speech="")), "no text"),
    (talk(units(1), answer(speech="words")), "0 runs"),
    (talk(units(1), answer(emotion="bored")), "emotion 'bored'"),
    (talk(units(1), '{"assistant response text": "x"'), "EMOVA's JSON"),
    (talk("hi", "half \ud83d"), "half a character"),
    ("[" * 100_000, "no JSON"),
    (talk(units(1), '{"a":' * 100_000), "EMOVA's JSON"),
    (talk("<|speech_" + "9" * 5000 + "|>", "ho"), "no number"),
  ],
)
def test_what_is_put_aside(conversation, message):
  with pytest.raises(UserError, match=message):
    read(conversation)


def test_several_images():
  with pytest.raises(UserError, match="2 places for one image"):
    read(talk("<image> <image> compare", "same"), picture_bytes())


def test_answers_in_escapes():
  escaped = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": r"\u4f60\n\ud83d\ude00", "re_encode": True}]
  assert read(escaped).turns[1].text == "你\n😀"
  escaped[1]["value"] = "你"
  with pytest.raises(UserError, match="re_encode"):
    read(escaped)


@pytest.fixture
def llava(tmp_path):
  write(tmp_path / "images" / "a.png", picture_bytes())
  write(tmp_path / "out.png", picture_bytes())
  write(tmp_path / "images" / "bad.png", picture_bytes()[:40])
  return [
    {"id": "1", "image": "a.png", "conversations": talk("<image>\nwhat is ü 😀", "a \"dog\" [1]")},
    {"id": 2, "conversations": talk("hi", "ho")},
    {"id": "3", "image": "none.png", "conversations": talk("<image>", "ho")},
    {"id": "4", "image": "../out.png", "conversations": talk("<image>", "ho")},
    {"id": "5", "image": "bad.png", "conversations": talk("<image>", "ho")},
    {"id": "6", "image": ["a.png", "a.png"], "conversations": talk("<image>", "ho")},
    {"conversations": []},
    "no object",
  ]  # fmt: skip


@pytest.mark.parametrize("ending", ["json", "jsonl", "folder", "spread"])
def test_llava_in_every_form(tmp_path, llava, ending):
  path = tmp_path / "notes" / ("a.jsonl" if ending == "jsonl" else "a.json")
  if ending == "jsonl":
    write(path, "\n\n".join(json.dumps(item, ensure_ascii=False) for item in llava))
  else:
    write(
      path,
      "\ufeff" * (ending == "spread") + json.dumps(llava, ensure_ascii=False, indent=4 if ending == "spread" else None),
    )
  found = read_all(Llava(annotations=path.parent if ending == "folder" else path, images=(tmp_path / "images",)))
  example = found["1"]
  assert (example.image, example.turns[0].text, example.turns[1].text) == (
    picture_bytes(),
    "what is ü 😀",
    'a "dog" [1]',
  )
  assert found["2"].task == "text" and len(found) == len(llava)
  messages = {"3": "no such file", "4": "leads out", "5": "cannot read image", "6": "image ['a.png'",
              "a/6": "empty conversation", "a/7": "no object"}  # fmt: skip
  for name, message in messages.items():
    assert message in found[name], name


def test_llava_with_bytes_that_are_no_text(tmp_path):
  items = [json.dumps({"id": name, "conversations": talk("hi", "ho")}).encode() for name in "abc"]
  items[1] = items[1].replace(b"hi", b"h\xff")
  for ending, data in (("json", b"[" + b",\n".join(items) + b"]"), ("jsonl", b"\n".join(items))):
    found = read_all(Llava(annotations=write(tmp_path / f"x.{ending}", data)))
    assert found["a"].turns[0].text == found["c"].turns[0].text == "hi"
    assert "no UTF-8" in next(value for name, value in found.items() if name in ("b", "x/1"))


@pytest.mark.parametrize("data", ["", "{}", "[1, 2", '[{"id": 1}', "[1, }", "3"])
def test_a_list_that_is_none(tmp_path, data):
  with pytest.raises(UserError, match="no complete JSON list"):
    list(Llava(annotations=write(tmp_path / "x.json", data)).entries())


def test_items_larger_than_a_piece(tmp_path, monkeypatch):
  monkeypatch.setattr("omni_jax.prepare.corpora.lines._PIECE", 7)
  items = [{"id": str(number), "conversations": talk("hé" * number + "?", "ho")} for number in range(1, 20)]
  found = read_all(Llava(annotations=write(tmp_path / "x.json", json.dumps(items, ensure_ascii=False))))
  assert [example.turns[0].text for example in found.values()] == ["hé" * number + "?" for number in range(1, 20)]


def test_a_line_without_end(tmp_path, monkeypatch):
  monkeypatch.setattr("omni_jax.prepare.corpora.lines.MAX_BYTES", 200)
  good = json.dumps({"id": "good", "conversations": talk("hi", "ho")})
  found = read_all(Llava(annotations=write(tmp_path / "x.jsonl", f"{'x' * 999}\n{good}\n")))
  assert "a line of 1000 bytes" in found["x/0"] and found["good"].task == "text"


def test_speech_instruct(tmp_path):
  said = "<sosp><1><22><333><eosp>"
  texts = [
    f"[Human]: Try to recognize it. This is input: {said}<eoh> [SpeechGPT]: the garden<eoa> ",
    f"[Human]: Read it. This is input: the garden<eoh> [SpeechGPT]: {said}<eoa> ",
    f"[Human]: {said}<eoh>. [SpeechGPT]: how are you; [ta] I am well; [ua] <sosp><7><eosp><eoa>.",
    f"[Human]: {said}<eoh>. [SpeechGPT]: [tq] how are you; [ta] I am well; [ua] <sosp><7><eosp><eoa>.",
    "[Human]: Hi<eoh> [SpeechGPT]: Ho<eoa> [Human]: Bye<eoh> [SpeechGPT]: See you<eoa>",
    "[Human]: <sosp><1000><eosp><eoh> [SpeechGPT]: out of range<eoa>",
    f"[Human]: {said}<eoh> [SpeechGPT]: {said}<eoa>",
    "[Human]: <sosp><eosp><eoh> [SpeechGPT]: nothing<eoa>",
    "no turns",
    f"[Human]: {said}<eoh> [SpeechGPT]: a<eoa> [Human]: x<eoh> [SpeechGPT]: b<eoa>",
  ]
  lines = [json.dumps({"prefix": "You are an AI assistant.", "plain_text": text}) for text in texts]
  found = [*read_all(SpeechInstruct(file=write(tmp_path / "cross.jsonl", "\n".join([*lines, "[]"])))).values()]
  assert found[0].task == "speech" and found[0].turns == found[1].turns
  assert (found[0].turns[0].text, found[0].turns[0].units.tolist()) == ("the garden", [1, 22, 333])
  assert found[2].task == "dialogue" and found[2].turns == found[3].turns
  assert [(turn.text, turn.units.tolist()) for turn in found[2].turns] == [
    ("how are you", [1, 22, 333]), ("I am well", [7])
  ]  # fmt: skip
  assert [turn.text for turn in validate(found[4]).turns] == ["Hi", "Ho", "Bye", "See you"]
  messages = ("unit 1000", "units on both sides", "no units", "no turns", "2 exchanges", "no text")
  assert all(message in reason for message, reason in zip(messages, found[5:], strict=True))
