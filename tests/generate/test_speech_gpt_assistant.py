import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate import speech_gpt_assistant as module
from omni_jax.generate.engine import prompt_of
from omni_jax.generate.exchange import Ability, Answer, Answering, Past, Question, SpokenText
from omni_jax.generate.speech_gpt_assistant import SpeechGPTAssistant
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.speech_gpt import speech_gpt
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.tokens import speech_gpt as own
from omni_jax.tokens.speech_gpt import SpeechGPTWriter, speech_gpt_vocabulary
from tests.generate.conftest import CODEBOOK

WAVEFORM = np.sin(np.arange(9000) / 20).astype(np.float32)
SPOKEN = Question(waveform=WAVEFORM)


@pytest.fixture(scope="module")
def parts(dialogue):
  vocabulary = speech_gpt_vocabulary(dialogue.tokenizer, num_units=CODEBOOK)
  chains, cross_modal = (
    SpeechGPTWriter(
      vocabulary=vocabulary, tokenizer=dialogue.tokenizer, template=dataclasses.replace(template, system="")
    )
    for template in (own.PAPER, own.RELEASED)
  )
  decoder = DecoderConfig(
    vocab_size=1, extra_vocab_size=0, width=32, depth=2, num_heads=2, num_kv_heads=2, head_dim=16, mlp_dim=48,
    rope_theta=1e4, norm_eps=1e-6, qkv_bias=False, tied=False,
  )  # fmt: skip
  config = AdaptedConfig(
    base=speech_gpt(decoder, vocabulary),
    targets=(r"decoder\.blocks\.attention\.(query|value)\.weight",),
    rank=2,
    alpha=4.0,
    bits="int8",
    block=8,
  )
  model = jax.jit(lambda: config.make(key=jax.random.key(3)))()
  ups = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(model.pairs) if "up" in str(path)]
  assert ups
  louder = jax.tree.map(lambda leaf: leaf * 8 if leaf.ndim and leaf.dtype == np.float32 else leaf, model)
  return louder, {"chains": chains, "cross_modal": cross_modal}


@pytest.fixture(scope="module")
def assistant(parts, speech):
  model, writers = parts
  # Answers of a random model end late: short ones suffice here.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(module, "_MAX_ANSWER", 96)
    yield SpeechGPTAssistant(model, **writers, tokenizer=speech["tokenizer"], vocoder=speech["vocoder"])


def test_it_is_an_assistant_that_neither_sees_nor_hears_styles(assistant):
  assert isinstance(assistant, Answering)
  assert not assistant.abilities & {Ability.SEES, Ability.HEARS_STYLES}
  with pytest.raises(UserError, match="no system that sees images"):
    assistant.answer([Question(text="the dog", image=np.zeros((8, 8, 3), np.uint8))])
  with pytest.raises(UserError, match="nothing asked"):
    assistant.answer([Question(text=" ")])


def test_every_kind_of_question_is_answered_in_its_own_way(assistant):
  questions = [SPOKEN, Question(text="the dog"), Question(text="the dog", style=ALL_STYLES[4])]
  heard, typed, aloud = assistant.answer(questions)
  assert len(heard.heard_units) and not len(typed.heard_units)
  assert typed.style is None and not len(typed.units) and not len(typed.waveform)
  assert aloud.style in (None, ALL_STYLES[4])
  for answer in (heard, typed, aloud):
    assert not answer.problem or "cut after 96" in answer.problem
    assert len(answer.waveform) == 100 * len(answer.units)


def test_a_stream_is_the_answer(assistant):
  for question in (SPOKEN, Question(text="the dog", style=ALL_STYLES[4])):
    (whole,) = assistant.answer([question])
    *events, last = assistant.stream(question)
    assert last.answer is not None and last.timings
    assert (last.answer.text, last.answer.heard_text) == (whole.text, whole.heard_text)
    if not whole.problem:
      assert "".join(event.text for event in events) == whole.text
      assert "".join(event.heard_text for event in events) == whole.heard_text
    np.testing.assert_allclose(last.answer.waveform, whole.waveform)


def test_without_requests_text_asks_for_text_and_is_read_aloud(assistant, monkeypatch):
  monkeypatch.setattr(assistant, "_requests", False)
  question = Question(text="the dog", style=ALL_STYLES[4])
  (prompt,), _ = assistant._read([question], module.Stopwatch())
  assert prompt.state == "text_to_text" and "instruction" not in assistant._writer.spell(prompt.tokens.tolist())
  whole = Answer(text="the star")
  aloud = assistant._aloud(question, whole)
  assert aloud.style == ALL_STYLES[4] and len(aloud.waveform) == 100 * len(aloud.units) > 0
  assert assistant._aloud(dataclasses.replace(question, speak=False), whole) is whole
  assert assistant._aloud(Question(text="the dog"), whole) is whole
  assert aloud.problem == ""
  cut = SpokenText(units=aloud.units, waveform=aloud.waveform, problem="cut after 96")
  monkeypatch.setattr(assistant, "synthesise", lambda texts: [cut])
  assert assistant._aloud(question, whole).problem == "cut after 96"


def test_recognition_and_synthesis_are_those_of_the_stage_before(assistant, parts):
  model, writers = parts
  spoken = assistant.synthesise([("the dog", ALL_STYLES[0]), ("the star", ALL_STYLES[5])], readings=2)
  assert all(len(one.units) and len(one.waveform) == 100 * len(one.units) for one in spoken)
  assert len(assistant.recognise([WAVEFORM, WAVEFORM[:4000]])) == 2 and assistant.recognise([]) == []
  prompt = prompt_of(assistant._script.ask_to_say("the dog"), state=module.SAYS)
  silent = assistant._plain.prefill([prompt], max_new_tokens=4).logits
  pairs = jax.tree.map(lambda leaf: leaf * 0, model.pairs)
  model = jax.tree.map(lambda leaf: leaf, model)
  model.pairs = pairs
  again = SpeechGPTAssistant(model, **writers, tokenizer=assistant.tokenizer, vocoder=assistant.vocoder)
  np.testing.assert_allclose(again.engine.prefill([_renamed(prompt)], max_new_tokens=4).logits, silent, atol=1e-5)


def _renamed(prompt):
  return dataclasses.replace(prompt, state="text_to_text")


def test_earlier_turns_stand_before_the_question_and_the_oldest_are_forgotten(assistant, monkeypatch):
  turn = Past(SPOKEN, Answer(text="old", heard_text="the dog", heard_units=np.array([3, 4]), units=np.array([7, 5])))
  typed = Past(Question(text="the star"), Answer(text="red"))
  question = dataclasses.replace(SPOKEN, history=(typed, turn))
  writer = assistant._writer

  def spelt(question):
    (prompt,), _ = assistant._read([question], module.Stopwatch())
    return writer.spell(prompt.tokens.tolist())

  whole = spelt(question)
  assert whole.count("[Human]") == 3 and whole.count("<eoa>") == 2 and "</s>" not in whole
  assert "<sosp><3><4><eosp>" in whole and "<sosp><7><5><eosp>" in whole
  alone = spelt(SPOKEN)
  assert whole.startswith("<s>") and whole.endswith(alone.removeprefix("<s>"))
  room = len(assistant._read([dataclasses.replace(SPOKEN, history=(turn,))], module.Stopwatch())[0][0].tokens)
  monkeypatch.setattr(module, "MAX_TOKENS", room + 96)
  assert spelt(question).count("[Human]") == 2


def test_a_question_longer_than_the_context_is_refused(assistant):
  with pytest.raises(UserError, match="together at most 2048 tokens"):
    assistant.answer([Question(text="the dog is old " * 700)])
  with pytest.raises(UserError, match="at least 1600 samples"):
    assistant.recognise([WAVEFORM[:100]])
