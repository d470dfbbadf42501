import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate.row_assistant import RowAssistant, RowQuestion
from omni_jax.speech.snac import SNAC_24KHZ, SNACConfig
from omni_jax.tokens.mini_omni import Task
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


SPOKEN = RowQuestion(task=Task.A1A2, waveform=0.3 * np.sin(np.arange(1600)))
WRITTEN = RowQuestion(task=Task.T1A2, text="abc")


@pytest.mark.parametrize("question", [SPOKEN, WRITTEN])
@pytest.mark.parametrize("paired", [False, True])
def test_a_stream_is_the_answer(parts, question, paired):
  model, codec = parts
  assistant = RowAssistant(model, tokenizer=Letters(), codec=codec, paired=paired)
  whole = assistant.answer(question, max_new_columns=20)
  pieces = list(assistant.stream(question, max_new_columns=20))
  assert "".join(piece.text for piece in pieces) == whole.text
  sound = np.concatenate([piece.samples for piece in pieces if piece.samples is not None])
  assert len(whole.codes) > 4 and len(sound) == len(whole.codes) * codec.hop
  np.testing.assert_allclose(sound, whole.waveform, atol=1e-5)


def test_the_first_sound_comes_when_its_context_is_known(parts, monkeypatch):
  """Frame 0 is whole after 8 passes, its samples are final when the context is known: 11 passes for SNAC's 3 frames."""
  model, codec = parts
  assistant = RowAssistant(model, tokenizer=Letters(), codec=codec)
  passes, decode = [], assistant._engine.stream

  def counted(*arguments, **options):
    for block in decode(*arguments, **options):
      passes.append(block.shape[2])
      yield block

  monkeypatch.setattr(assistant._engine, "stream", counted)
  first = next(piece.samples for piece in assistant.stream(WRITTEN) if piece.samples is not None)
  assert sum(passes) == 8 + CODEC.decoder_context and len(first) == codec.hop
  assert SNAC_24KHZ.decoder_context == 3 and SNAC_24KHZ.hop / SNAC_24KHZ.sample_rate == pytest.approx(0.0853, abs=1e-4)


def test_written_answers_are_silent(parts):
  model, codec = parts
  answer = RowAssistant(model, tokenizer=Letters(), codec=codec).answer(
    RowQuestion(task=Task.T1T2, text="abc"), max_new_columns=6
  )
  assert not len(answer.codes) and not len(answer.waveform)


def test_questions_that_do_not_fit_are_refused(parts):
  model, codec = parts
  assistant = RowAssistant(model, tokenizer=Letters(), codec=codec, max_columns=64)
  with pytest.raises(UserError, match="0 vectors and 3 text ids for A1A2"):
    assistant.answer(RowQuestion(task=Task.A1A2, text="abc"))
  with pytest.raises(UserError, match="together at most 64 columns"):
    assistant.answer(WRITTEN, max_new_columns=60)
  with pytest.raises(UserError, match="a prompt of 67 columns"):
    assistant.answer(RowQuestion(task=Task.T1T2, text="a" * 64))
  with pytest.raises(UserError, match="seconds"):
    assistant.answer(RowQuestion(task=Task.A1T1, waveform=np.zeros(16000)))
