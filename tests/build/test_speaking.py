import json

import pytest

from omni_jax.build.speaking import Cleaned, Engines, Spoken
from omni_jax.build.styling import WordJudge
from omni_jax.cli.main import main
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.quarantine import Rejected
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn, validate
from omni_jax.prepare.speakable import MANDARIN
from tests.prepare.corpora.fixtures import picture_bytes, write
from tests.prepare.corpora.test_conversations import talk

VOICES = Engines(users=("espeak:f1", "espeak:m3", "espeak:f4"), answers=("espeak:f1", "espeak:m3"))


def text(id, *texts, image=b""):
  turns = tuple(Turn(("user", "assistant")[place % 2], said) for place, said in enumerate(texts))
  return Example(id, "visual_question" if image else "text", turns, image)


@pytest.fixture(scope="module")
def say():
  return Spoken(voices=VOICES).open()


def test_a_dialogue_is_said_by_two_voices_of_one_gender(say):
  examples = [text(str(number), "I love it!", "Me too.") for number in range(4)]
  spoken = [validate(example) for example in say(examples)]
  assert {example.task for example in spoken} == {"dialogue"}
  for example in spoken:
    user, answer = example.turns
    assert Style.parse(user.style) == Style(VOICES.gender(user.voice), "happy", "high")
    assert VOICES.gender(answer.voice) == VOICES.gender(user.voice) and answer.voice in VOICES.answers
    assert min(len(decode_audio(turn.audio)) for turn in example.turns) > 4000
  assert len({example.turns[0].voice for example in spoken}) > 1
  assert [say([example])[0] for example in reversed(examples)][::-1] == spoken  # of the record alone


def test_a_text_is_an_utterance_and_a_picture_stays(say):
  document, seen = say([
    Example("d", "text", (Turn("assistant", "it is late"),)), text("p", "what is it", "a dog", image=picture_bytes())
  ])  # fmt: skip
  assert document.task == "speech" and document.turns[0].role == "user" and document.turns[0].voice in VOICES.users
  assert validate(seen).task == "spoken_visual_question" and seen.image == picture_bytes()


def test_units_of_other_sound_are_left_out(say):
  old = Turn("user", "hello", b"fLaC", units=[1, 2], unit_frames=[3, 4], heard="male-sad-low", phones="h e")
  (spoken,) = say([Example("a", "speech", (old,))])
  (turn,) = spoken.turns
  assert not len(turn.units) and not len(turn.unit_frames) and not turn.heard and turn.phones == "h e"
  assert len(decode_audio(turn.audio)) > 4000


def test_one_record_that_cannot_be_said_goes_alone(say):
  good, bad = text("good", "hello", "hi"), text("bad", "hello", " ")
  odd = text("odd", "hello", "hi", "and")
  first, second, third, last = say([good, bad, odd, good])
  assert first == last and isinstance(second, Rejected) and "empty text" in second.reason
  assert isinstance(third, Rejected) and "take turns" in third.reason


def test_characters_are_said_in_mandarin():
  voices = Engines(users=("espeak-cmn:f1",), answers=("espeak-cmn:m3",))
  step = Spoken(voices=voices, judge=WordJudge(emotional=False)).open()
  hello, poor, pinyin = step(
    [text("a", "你好。", "再见。"), text("b", "他很穷", "好"), text("c", "ni3 hao3", "zai4 jian4")]
  )
  assert isinstance(hello, Example) and {turn.style.split("-")[1] for turn in hello.turns} == {"neutral"}
  assert isinstance(poor, Rejected) and "穷" in poor.reason  # espeak-ng would read it in English
  lengths = [[len(decode_audio(turn.audio)) for turn in example.turns] for example in (hello, pinyin)]
  assert all(0.7 < one / other < 1.4 for one, other in zip(*lengths, strict=True))
  (cleaned,) = Cleaned(speakable=MANDARIN).open()([text("a", "**你好**", "再见")])
  assert cleaned.turns[0].text == "你好"


def test_a_conversation_ends_after_its_first_exchange():
  (cleaned,) = Cleaned().open()([text("a", "hi", "*ho*", "```", "x")])
  assert [turn.text for turn in cleaned.turns] == ["hi", "ho"]
  (rejected,) = Cleaned(most_turns=4).open()([text("a", "hi", "*ho*", "```", "x")])
  assert "a, turn 2" in rejected.reason


def test_spoken_dialogues_by_command(tmp_path, capsys):
  items = [
    {"id": "one", "conversations": talk("Is **grass** green?", "- Yes, it is.")},
    {"id": "two", "conversations": talk("Write code", "```\nx = 1\n```")},
    {"id": "three", "conversations": talk("I am so sad.", "Oh no.")},
  ]
  write(tmp_path / "talks.json", json.dumps(items))
  command = ["prepare", "--source", f"llava:{tmp_path / 'talks.json'}", "--name", "spoken", "--workers", "1"]
  command += ["--steps", "configs/emova/builders.py:spoken_dialogue", "--workdir", str(tmp_path), "--phones", "espeak"]
  assert main(command) == 2
  assert "two: code" in capsys.readouterr().err
  assert main([*command, "--max-rejected", "0.5"]) == 0
  found = {example.id: example for example in open_set(tmp_path / "corpus" / "spoken", "train")}
  assert list(found) == ["one", "three"] and found["three"].turns[0].style.endswith("sad-low")
  assert [turn.text for turn in found["one"].turns] == ["Is grass green?", "Yes, it is."]
  assert all(turn.phones for example in found.values() for turn in example.turns)
  assert main([*command, "--max-rejected", "0.5"]) == 0
  assert "as it was made before" in capsys.readouterr().out
  assert main([*command, "--steps", "configs/emova/align.py:tiny"]) == 2
