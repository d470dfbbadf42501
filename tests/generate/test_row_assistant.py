import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.exchange import Answer, Answering, Past, Question
from omni_jax.generate.row_assistant import RowAssistant
from omni_jax.speech.snac import SNAC_24KHZ, SNACConfig
from tests.models.drawn import drawn
from tests.models.test_mini_omni import LAYOUT, tiny

CODEC = SNACConfig(
  sample_rate=24000, encoder_width=2, encoder_rates=(4, 8), decoder_width=8, decoder_rates=(8, 4),
  codebook_size=LAYOUT.num_codes, code_width=2, strides=(4, 2, 1), depthwise=True, noise=True, normed=False,
)  # fmt: skip


class Letters:
  """Text as its letters, a to r."""

  num_pieces = 18

  def encode(self, text):
    return [ord(letter) - 97 for letter in text]

  def decode(self, ids):
    return "".join(chr(97 + i) for i in ids)


@pytest.fixture(scope="module")
def parts():
  model = drawn(tiny(), deviation=0.5)
  codec = jax.jit(lambda: CODEC.make(key=jax.random.key(0)))()
  return model, codec


SPOKEN = Question(waveform=0.3 * np.sin(np.arange(1600)))
WRITTEN = Question(text="abc", style=ALL_STYLES[0])


@pytest.mark.parametrize("paired", [False, True])
def test_a_stream_is_the_answer_and_a_batch_its_answers(parts, paired):
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec, paired=paired)
  assert isinstance(assistant, Answering)
  questions = [SPOKEN, Question(text="abc"), WRITTEN]
  together = assistant.answer(questions, max_new_columns=20)
  for question, whole in zip(questions, together, strict=True):
    *events, last = assistant.stream(question, max_new_columns=20)
    assert "".join(event.text for event in events) == whole.text == last.answer.text
    sound = np.concatenate([np.zeros(0), *(event.samples for event in events if event.samples is not None)])
    speaks = question is not questions[1]
    assert (len(whole.units) > 4) == speaks and len(sound) == len(whole.units) * codec.hop
    np.testing.assert_allclose(sound, whole.waveform, atol=1e-5)
    np.testing.assert_array_equal(sound.astype(np.float32), last.answer.waveform)
    assert set(last.timings) == {"hear", "answer", "vocoder"}


def test_the_first_sound_comes_when_its_context_is_known(parts, monkeypatch):
  """Frame 0 is whole after 8 passes, its samples are final when the context is known: 11 passes for SNAC's 3 frames."""
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec, paired=False)
  passes, decode = [], assistant._engine.stream

  def counted(*arguments, **options):
    for block in decode(*arguments, **options):
      passes.append(block.shape[2])
      yield block

  monkeypatch.setattr(assistant._engine, "stream", counted)
  first = next(event.samples for event in assistant.stream(WRITTEN) if event.samples is not None)
  assert sum(passes) == 8 + CODEC.decoder_context and len(first) == codec.hop
  assert SNAC_24KHZ.decoder_context == 3 and SNAC_24KHZ.hop / SNAC_24KHZ.sample_rate == pytest.approx(0.0853, abs=1e-4)


def test_what_is_not_to_be_spoken_is_only_written(parts):
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec)
  silent = dataclasses.replace(SPOKEN, speak=False)
  aloud, written = assistant.answer([SPOKEN, silent], max_new_columns=8)
  assert not len(written.units) and not len(written.waveform)
  assert aloud.text == written.text  # the second row of the pair
  assert len(assistant.recognise([SPOKEN.waveform, SPOKEN.waveform])) == 2 and assistant.recognise([]) == []


def test_a_text_is_read_as_it_stands(parts, monkeypatch):
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec, max_columns=40)
  kept, generate = [], assistant._engine.generate
  monkeypatch.setattr(assistant._engine, "generate", lambda *a, **b: kept.extend(generate(*a, **b)) or kept)
  said = assistant.synthesise([("abc", ALL_STYLES[0]), ("fedcba", ALL_STYLES[0])])
  for columns, text, one in zip(kept, ("abc", "fedcba"), said, strict=True):
    row = LAYOUT.text_row
    assert columns[-1, : len(text) + 2].tolist() == [*Letters().encode(text), row.end, row.pad]
    assert len(one.units) and len(one.waveform) == len(one.units) * codec.hop
  with pytest.raises(UserError, match="empty text"):
    assistant.synthesise([(" ", ALL_STYLES[0])])


def test_questions_that_do_not_fit_are_refused(parts):
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec, max_columns=64)
  for question, message in (
    (Question(), "nothing asked"),
    (dataclasses.replace(WRITTEN, image=np.zeros((8, 8, 3), np.uint8)), "a question with an image"),
    (dataclasses.replace(WRITTEN, history=(Past(WRITTEN, Answer(text="a")),)), "a question with earlier turns"),
    (Question(text="a" * 64), "a prompt of 67 columns"),
    (Question(waveform=np.zeros(16000)), "seconds"),
  ):
    with pytest.raises(UserError, match=message):
      assistant.answer([question])
  with pytest.raises(UserError, match="together at most 64 columns"):
    assistant.answer([WRITTEN], max_new_columns=60)
