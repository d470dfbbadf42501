import pytest

from omni_jax.build.styling import BY_WORDS, WordJudge, emotion_of
from omni_jax.core.styles import Style
from omni_jax.prepare.schema import Example, Turn


@pytest.mark.parametrize(
  ("text", "emotion"),
  [
    ("That is great, thank you!", "happy"),
    ("I am so sad, my dog died.", "sad"),
    ("This is outrageous and I hate it", "angry"),
    ("What is the capital of France?", "neutral"),
    ("I love it but I hate it", "neutral"),
    ("Greatly lovely", "neutral"),
    ("太好了，谢谢", "happy"),
    ("我很难过", "sad"),
  ],
)
def test_words_tell_an_emotion(text, emotion):
  assert emotion_of(text) == emotion


def judged(*texts, judge=BY_WORDS, id="a"):
  turns = tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))
  genders = [("female", "male")[place % 2] for place in range(len(texts))]
  return judge.open()(Example(id, "text", turns), genders)


def test_an_answer_replies_to_its_question():
  assert judged("I hate this", "Oh.") == [Style("female", "angry", "normal"), Style("male", "neutral", "normal")]
  assert judged("I am so happy", "Oh.")[1] == Style("male", "happy", "high")
  assert [str(style) for style in judged("I am sad", "Oh.", "I love it", "Oh.")][1::2] == [
    "male-sad-low", "male-happy-high",
  ]  # fmt: skip


def test_where_words_tell_nothing_pitches_take_turns():
  pitches = [judged("what is this", id=str(number))[0].pitch for number in range(60)]
  assert {pitches.count(pitch) > 10 for pitch in ("low", "normal", "high")} == {True}
  assert pitches == [judged("what is this", id=str(number))[0].pitch for number in range(60)]


def test_voices_of_one_emotion():
  styles = judged("I hate this", "Great!", judge=WordJudge(emotional=False))
  assert [style.emotion for style in styles] == ["neutral", "neutral"]
