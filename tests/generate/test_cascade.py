import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.cascade import Cascade
from omni_jax.generate.exchange import DEFAULT_STYLE, Ability, Answer, Answering, Past, Question, SpokenText

WORDS = {100: "what is red", 200: ""}  # by the length of a recording


class Parrot:
  """Recognises by length, answers with the question turned round, and speaks its letters."""

  sample_rate, abilities = 24_000, frozenset({Ability.SEES, Ability.HEARS_STYLES})

  def recognise(self, waveforms):
    return [WORDS[len(waveform)] for waveform in waveforms]

  def answer(self, questions):
    assert all(question.waveform is None and question.style is None for question in questions)
    return [Answer(text=question.text[::-1]) for question in questions]

  def synthesise(self, texts, *, readings=9, manner=None):
    sounds = [np.full(len(text), ALL_STYLES.index(style), np.float32) for text, style in texts]
    return [SpokenText(units=np.arange(len(sound)), waveform=sound) for sound in sounds]

  def resynthesise(self, recordings):
    return [waveform for waveform, _ in recordings]

  def stream(self, question):
    raise NotImplementedError


@pytest.fixture
def cascade():
  return Cascade.of(Parrot())


def test_nothing_but_words_passes_from_step_to_step(cascade):
  assert isinstance(cascade, Answering) and cascade.abilities == {Ability.SEES} and cascade.sample_rate == 24_000
  questions = [
    Question(waveform=np.zeros(100)),
    Question(text="the dog"),
    Question(text="the dog", style=ALL_STYLES[5]),
    Question(waveform=np.zeros(200)),
    Question(waveform=np.zeros(100), speak=False),
  ]
  spoken, typed, aloud, unheard, silent = cascade.answer(questions)
  assert (spoken.text, spoken.heard_text, spoken.style) == ("der si tahw", "what is red", DEFAULT_STYLE)
  assert (spoken.waveform == ALL_STYLES.index(DEFAULT_STYLE)).all() and len(spoken.waveform) == 11
  assert typed.text == "god eht" and not len(typed.waveform) and typed.style is None
  assert (aloud.waveform == 5).all() and len(aloud.waveform) == 7
  assert "nothing was recognised" in unheard.problem and not len(unheard.waveform)
  assert silent.text == spoken.text and not len(silent.waveform)
  assert set(spoken.timings) == {"hear", "answer", "vocoder"}


def test_a_reading_that_was_cut_is_a_problem_of_the_answer(cascade, monkeypatch):
  say = Parrot.synthesise
  monkeypatch.setattr(
    Parrot, "synthesise", lambda *a, **b: [dataclasses.replace(one, problem="cut after 9") for one in say(*a, **b)]
  )
  spoken, written = cascade.answer([Question(waveform=np.zeros(100)), Question(text="the dog")])
  assert spoken.problem == "cut after 9" and len(spoken.waveform) and written.problem == ""
  monkeypatch.setattr(Parrot, "answer", lambda self, questions: [Answer(text="a", problem="cut after 4")])
  assert cascade.answer([Question(waveform=np.zeros(100))])[0].problem == "cut after 4; cut after 9"


def test_who_asks_for_what_it_cannot_do_is_told(cascade):
  past = Past(Question(text="the dog"), Answer(text="god eht"))
  with pytest.raises(UserError, match="no system that remembers"):
    cascade.answer([Question(text="the star", history=(past,))])
  with pytest.raises(UserError, match="nothing asked"):
    cascade.answer([Question(text=" ")])


def test_a_stream_is_one_piece(cascade):
  words, sound, last = cascade.stream(Question(waveform=np.zeros(100)))
  assert words.text == last.answer.text == "der si tahw" and words.heard_text == "what is red"
  np.testing.assert_array_equal(sound.samples, last.answer.waveform)
  assert [event.text for event in cascade.stream(Question(text="the dog"))] == ["god eht", ""]
