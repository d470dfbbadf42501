import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.exchange import Ability, Answer, Answering, Past, Question
from omni_jax.generate.row_assistant import RowAssistant
from omni_jax.generate.sampling import Sampling
from omni_jax.models.mini_omni import MiniOmni
from omni_jax.speech.snac import SNAC_24KHZ, SNACConfig
from omni_jax.tokens.delays import FrameStream
from omni_jax.tokens.mini_omni import Task
from tests.models.drawn import drawn
from tests.models.test_mini_omni import LAYOUT, tiny
from tests.models.test_sight import SIGHT

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


def test_the_first_sound_comes_when_its_context_is_known(monkeypatch):
  """Passes of the model are counted as it runs: a frame is whole after 8, its samples are final a little later.

  With SNAC's 2.3 frames of context 58 ms sound after 10 passes, 143 ms after 11, four frames after 14. The original's
  isolated chunks of four frames begin after 11 passes.
  """
  passes, model = [0], drawn(tiny(), deviation=0.5)
  count = lambda: passes.__setitem__(0, passes[0] + 1)  # noqa: E731
  for name in ("prefill", "step"):
    own = getattr(MiniOmni, name)

    def counted(*arguments, own=own):
      jax.debug.callback(count)
      return own(*arguments)

    monkeypatch.setattr(MiniOmni, name, counted)
  codec = CODEC.make(key=jax.random.key(0))
  # Another sampling than elsewhere, so that nothing compiled without the counting is used again.
  assistant = RowAssistant(model, text=Letters(), codec=codec, paired=False, sampling=Sampling(top_p=0.5))
  whole = FrameStream(LAYOUT.audio_rows)
  decode, isolated, made, known = assistant._engine.stream, {}, {}, 0

  def watched(*arguments, **options):
    nonlocal known
    for block in decode(*arguments, **options):
      jax.effects_barrier()
      known += len(whole.push(block[0, :-1]))
      isolated.setdefault(known // 4, passes[0])
      yield block

  monkeypatch.setattr(assistant._engine, "stream", watched)
  sound = 0
  for event in assistant.stream(WRITTEN, max_new_columns=150):
    if event.samples is not None:
      sound += len(event.samples)
      made.setdefault(passes[0], sound)
    if passes[0] > 15:
      break
  assert isolated[1] == 11
  context, early = CODEC.decoder_context, CODEC.decoder_context * CODEC.hop - CODEC.decoder_ahead
  assert list(made)[:3] == [7 + context, 8 + context, 9 + context] and 0 < early < CODEC.hop
  assert list(made.values())[:3] == [early, early + CODEC.hop, early + 2 * CODEC.hop]
  assert SNAC_24KHZ.decoder_context == 3 and SNAC_24KHZ.decoder_ahead == 4757
  early = 3 * SNAC_24KHZ.hop - SNAC_24KHZ.decoder_ahead
  milliseconds = [1000 * (early + frames * SNAC_24KHZ.hop) / SNAC_24KHZ.sample_rate for frames in (0, 1)]
  assert milliseconds == pytest.approx([57.8, 143.1], abs=0.05) and early + 4 * SNAC_24KHZ.hop > 4 * SNAC_24KHZ.hop


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


def test_earlier_turns_and_styles_reach_the_prompt(parts, monkeypatch):
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec, max_columns=40, styles=True)
  assert assistant.abilities == {Ability.REMEMBERS, Ability.SPEAKS_STYLES}
  asked, generate = [], assistant._engine.generate
  monkeypatch.setattr(assistant, "recognise", lambda waveforms: ["ca"] * len(waveforms))
  monkeypatch.setattr(
    assistant._engine, "generate", lambda prompts, **options: asked.append(prompts) or generate(prompts, **options)
  )
  history = (Past(Question(text="a" * 30), Answer(text="b")), Past(SPOKEN, Answer(text="ed")))
  (answer,) = assistant.answer([dataclasses.replace(WRITTEN, history=history)], max_new_columns=10)
  ((aloud, written),) = asked
  past = [(Letters().encode("ca"), Letters().encode("ed"))]  # the oldest turn has no room
  for prompt, task, style in ((aloud, Task.T1A2, WRITTEN.style), (written, Task.T1T2, None)):
    expected = LAYOUT.prompt(task, text=Letters().encode("abc"), style=style, past=past)
    np.testing.assert_array_equal(prompt.tokens.T, expected)
  assert answer.style == (WRITTEN.style if len(answer.units) else None)
  plain = RowAssistant(model, text=Letters(), codec=codec, max_columns=40)
  assert plain.abilities == {Ability.REMEMBERS} and plain.answer([WRITTEN], max_new_columns=10)[0].style is None


def test_an_image_is_seen_with_the_question(parts):
  codec = parts[1]
  assistant = RowAssistant(drawn(tiny(seeing=SIGHT)), text=Letters(), codec=codec, max_columns=80)
  assert Ability.SEES in assistant.abilities
  picture = np.random.default_rng(0).integers(0, 256, (9, 14, 3)).astype(np.uint8)
  asked = [dataclasses.replace(question, image=picture) for question in (SPOKEN, WRITTEN)]
  prompts = [assistant._prompt(Task.A1A2, asked[0]), assistant._prompt(Task.T1A2, asked[1])]
  assert all(prompt.images["tiles"].shape == (1, 12, 12, 3) for prompt in prompts)
  assert [(prompt.tokens[:, 0] == LAYOUT.text_size + LAYOUT.image_place).sum() for prompt in prompts] == [17, 17]
  assert len(assistant.answer([*asked, SPOKEN], max_new_columns=10)) == 3
  with pytest.raises(UserError, match="2 images"):
    assistant.answer([dataclasses.replace(WRITTEN, image=[picture, picture])])


def test_questions_that_do_not_fit_are_refused(parts):
  model, codec = parts
  assistant = RowAssistant(model, text=Letters(), codec=codec, max_columns=64)
  for question, message in (
    (Question(), "nothing asked"),
    (dataclasses.replace(WRITTEN, image=np.zeros((8, 8, 3), np.uint8)), "a question with an image"),
    (Question(text="a" * 64), "a prompt of 67 columns"),
    (Question(waveform=np.zeros(16000)), "seconds"),
  ):
    with pytest.raises(UserError, match=message):
      assistant.answer([question])
  with pytest.raises(UserError, match="together at most 64 columns"):
    assistant.answer([WRITTEN], max_new_columns=60)
