import itertools
import random

import pytest

from omni_jax.core.styles import ALL_STYLES, EMOTIONS
from omni_jax.prepare import sentences


def many(make, count=300):
  source = random.Random(0)
  return [make(source) for _ in range(count)]


def test_sentences_are_short_lower_case_and_of_the_closed_world():
  world = sentences.words()
  texts = many(sentences.statement) + many(sentences.remark)
  texts += [text for fact in sentences.facts() for text in (fact.question, fact.answer)]
  texts += [sentences.reply_to(text, "sad") for text in many(sentences.remark)]
  for text in texts:
    words = text.split()
    assert 3 <= len(words) <= 14, text
    assert text == text.lower() and text.replace(" ", "").isalpha(), text
    assert set(words) <= world, text
  assert 200 <= len(world) <= 350


def test_articles_agree():
  for text in many(sentences.statement) + many(sentences.remark):
    words = text.split()
    assert all(not (a == "a" and b[0] in "aeiou") for a, b in itertools.pairwise(words)), text


def test_a_part_of_every_kind_is_held_out_for_good():
  for texts in (many(sentences.statement), [fact.question for fact in sentences.facts()]):
    share = sum(map(sentences.is_held_out, texts)) / len(texts)
    assert 0.05 < share < 0.2
  assert sentences.is_held_out("what color is the sky") == sentences.is_held_out("what color is the sky")


def test_the_same_words_in_two_moods_get_two_answers_that_name_them():
  for text in many(sentences.remark, 20):
    replies = {emotion: sentences.reply_to(text, emotion) for emotion in EMOTIONS}
    assert len(set(replies.values())) == len(EMOTIONS)
    assert all(sentences.EMOTION_WORDS[emotion] in reply.split() for emotion, reply in replies.items())


@pytest.mark.parametrize(
  ("remark", "topic"),
  [
    ("my brother carried my phone", "the phone"),
    ("i am going to see my mother at school", "your mother"),
    ("there is a dog in the garden again", "the dog"),
    ("my friend sold my garden chair today", "the garden chair"),
  ],
)
def test_replies_say_what_the_remark_was_about(remark, topic):
  assert sentences.reply_to(remark, "happy").endswith(f"about {topic}")


def test_answers_keep_the_gender_and_calm_anger():
  for style in ALL_STYLES:
    answer = sentences.reply_style(style)
    assert answer.gender == style.gender
    assert answer.emotion == ("neutral" if style.emotion == "angry" else style.emotion)
