import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate.conversation import INTERRUPTED, Conversation, SpeechGate
from omni_jax.generate.exchange import Answer, Event, Question
from omni_jax.generate.row_assistant import RowAssistant
from omni_jax.tokens.mini_omni import Task
from tests.generate.test_row_assistant import CODEC, WRITTEN, Letters
from tests.models.drawn import drawn
from tests.models.test_mini_omni import tiny


def test_an_interrupted_answer_stops_and_the_talk_goes_on_with_what_was_said(monkeypatch):
  codec = jax.jit(lambda: CODEC.make(key=jax.random.key(0)))()
  assistant = RowAssistant(drawn(tiny(), deviation=0.5), text=Letters(), codec=codec, max_columns=100)
  passes, heard, decode = [], [], assistant._engine.stream

  def watched(prompts, **options):
    heard.append(prompts)
    for block in decode(prompts, **options):
      passes.append(1)
      yield block

  monkeypatch.setattr(assistant._engine, "stream", watched)
  whole = list(assistant.stream(WRITTEN))[-1].answer
  all_passes, _ = len(passes), passes.clear()
  talk, gate, sound = Conversation(assistant), SpeechGate(), []
  assert not gate.push(1e-4 * np.ones(16000))

  def user_speaks():  # over the second piece of sound
    return len(sound) > 1 and gate.push(0.3 * np.sin(np.arange(8000)))

  for event in talk.ask(WRITTEN, interrupted=user_speaks):
    sound += [] if event.samples is None else [event.samples]
  said = event.answer
  assert said.problem == INTERRUPTED and len(passes) < all_passes
  assert whole.text.startswith(said.text) and 0 < len(said.waveform) < len(whole.waveform)
  np.testing.assert_allclose(said.waveform, whole.waveform[: len(said.waveform)], atol=1e-5)
  (past,) = talk.history
  assert past.answer is said
  last = list(talk.ask(dataclasses.replace(WRITTEN, text="ba")))[-1].answer
  row = assistant._layout.text_row
  written = [Letters().encode("abc"), Letters().encode(said.text), Letters().encode("ba")]
  expected = [i for ids in written for i in ids]
  for prompt in heard[-1]:
    assert [i for i in prompt.tokens[:, -1].tolist() if i < row.num_codes] == expected
  assert [turn.answer for turn in talk.history] == [said, last] and last.problem != INTERRUPTED


def test_what_was_said_in_earlier_turns_is_recognised_once(monkeypatch):
  assistant = RowAssistant(drawn(tiny()), text=Letters(), codec=None, max_columns=100)
  recognised, prompts = [], []
  monkeypatch.setattr(assistant, "recognise", lambda waveforms: recognised.extend(waveforms) or ["ca"])

  def answered(question):
    task = Task.T1T2 if question.waveform is None else Task.A1T2
    prompts.append(assistant._pair(task, question))
    yield Event(answer=Answer(text="b"))

  monkeypatch.setattr(assistant, "stream", answered)
  spoken = [Question(waveform=np.sin(np.arange(3200) / step)) for step in (3, 5)]
  talk = Conversation(assistant)
  for question in (*spoken, WRITTEN, WRITTEN):
    list(talk.ask(question))
  assert [id(waveform) for waveform in recognised] == [id(question.waveform) for question in spoken]
  row = assistant._layout.text_row
  (prompt,) = prompts[-1]
  assert Letters().decode(i for i in prompt.tokens[:, -1].tolist() if i < row.num_codes) == "cabcababcbabc"


def test_a_gate_hears_a_voice_and_not_the_room():
  room = 0.003 * np.random.default_rng(0).standard_normal(48_000)
  gate = SpeechGate()
  assert not any(gate.push(piece) for piece in np.split(room, 300))
  voice = 0.2 * np.sin(np.arange(8000) / 5)
  assert not gate.push(voice[:1600]) and gate.push(voice[1600:]) and gate.speaks
  assert not gate.push(room[:8000])
  assert SpeechGate().push(voice)  # from the first sample on
  with pytest.raises(UserError, match="0 seconds"):
    SpeechGate(seconds=0)


def test_nothing_asked_is_no_turn():
  assistant = RowAssistant(drawn(tiny()), text=Letters(), codec=None)
  talk = Conversation(assistant)
  with pytest.raises(UserError, match="nothing asked"):
    list(talk.ask(Question()))
  assert not talk.history
