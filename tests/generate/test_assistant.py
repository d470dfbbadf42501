import dataclasses
import io
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from omni_jax.batches.sequences import SequenceBatches
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.store import load_model
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate import assistant as assistant_module
from omni_jax.generate import speech_stages
from omni_jax.generate.assistant import Assistant, load_language
from omni_jax.generate.exchange import Past, Question
from omni_jax.generate.streaming import Stopwatch
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.answers import JsonLayout
from omni_jax.train.loop import Run, train
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import OptimizerConfig
from tests.generate.conftest import FakeVocoder

WAVEFORM = np.sin(np.arange(9000) / 20).astype(np.float32)
SPOKEN = Question(waveform=WAVEFORM)


@pytest.fixture
def assistant(model, dialogue, images, speech) -> Assistant:
  return Assistant(model, dialogue=dialogue, images=images, **speech)


def picture() -> bytes:
  data = io.BytesIO()
  Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 16, 3)).astype(np.uint8)).save(data, "PNG")
  return data.getvalue()


def test_every_kind_of_question_is_answered_in_its_own_way(assistant):
  questions = [
    Question(text="the dog"),
    Question(image=picture()),
    Question(text="the dog", style=ALL_STYLES[4]),
    Question(waveform=WAVEFORM),
    Question(waveform=WAVEFORM, image=picture(), style=ALL_STYLES[5], hear_style=False),
    Question(waveform=WAVEFORM, speak=False),
  ]
  typed, seen, aloud, heard, forced, silent = assistant.answer(questions)
  assert typed.style is None and seen.style is None and not len(typed.waveform) and not len(typed.units)
  assert aloud.style == ALL_STYLES[4] and forced.style == ALL_STYLES[5]
  assert heard.heard_style == silent.heard_style == ALL_STYLES[len(WAVEFORM) % 24] and heard.style is not None
  np.testing.assert_array_equal(heard.units, silent.units)
  assert not len(silent.waveform)
  assert set(typed.timings) == {"hear", "see", "answer", "vocoder"}


def test_tiles_are_seen_and_several_images_too(tiled_model, dialogue, tiles, speech):
  assistant = Assistant(tiled_model, dialogue=dialogue, images=tiles, **speech)
  other = np.full((20, 16, 3), 200, np.uint8)
  questions = [
    Question(text="the dog", image=image) for image in (picture(), other, (picture(), other), (other, picture()))
  ]
  prompts, _ = assistant._read(questions, Stopwatch())
  logits = np.asarray(assistant.engine.prefill(prompts, max_new_tokens=8).logits)
  different = np.abs(logits[:, None] - logits[None]).max(axis=-1) > 1e-4
  np.testing.assert_array_equal(different, ~np.eye(4, dtype=bool))  # each picture counts, and their order
  assert len(assistant.answer(questions)) == 4


def test_earlier_turns_stand_before_the_question_and_the_oldest_are_forgotten(assistant, monkeypatch):
  seen = Question(text="the dog", image=picture())
  past = [
    Past(question, answer) for question, answer in zip([seen, SPOKEN], assistant.answer([seen, SPOKEN]), strict=True)
  ]
  asked = dataclasses.replace(SPOKEN, history=past)
  (alone, whole), _ = assistant._read([SPOKEN, asked], Stopwatch())
  opening = len(assistant.dialogue._encode(assistant.dialogue._begin(None)))
  assert whole.tokens[-len(alone.tokens) + opening :].tolist() == alone.tokens[opening:].tolist()
  assert whole.images and not alone.images
  answered = assistant.dialogue.vocabulary.unit_ids[past[1].answer.units].tolist()
  assert len(past[1].answer.heard_units) and set(answered) <= set(whole.tokens.tolist())
  monkeypatch.setattr(assistant_module, "MAX_TOKENS", len(whole.tokens) - 1 + assistant_module._MAX_ANSWER)
  ((shorter,), _) = assistant._read([asked], Stopwatch())
  assert len(alone.tokens) < len(shorter.tokens) < len(whole.tokens) and not shorter.images
  assert len(assistant.answer([asked])) == 1


def test_streaming_gives_the_same_answer(assistant, dialogue):
  for question in (
    Question(waveform=WAVEFORM),
    Question(text="the dog", style=ALL_STYLES[4]),
    Question(text="the dog"),
  ):
    (whole,) = assistant.answer([question])
    *events, last = assistant.stream(question)
    assert last.answer is not None and last.timings
    assert (last.answer.text, last.answer.style, last.answer.problem) == (whole.text, whole.style, whole.problem)
    assert "".join(event.text for event in events) == whole.text
    np.testing.assert_array_equal(last.answer.units, whole.units)
    if not whole.problem:
      np.testing.assert_allclose(last.answer.waveform, whole.waveform)


def test_json_answers_stream_too(model, dialogue, images, speech):
  json = dataclasses.replace(dialogue, layout=JsonLayout())
  assistant = Assistant(model, dialogue=json, images=images, **speech)
  question = Question(waveform=WAVEFORM)
  (whole,) = assistant.answer([question])
  *_, last = assistant.stream(question)
  assert last.answer is not None and last.answer.text == whole.text
  assert not whole.problem and whole.waveform is not None and len(whole.waveform), (
    "even a random model writes the object, and speaks"
  )


def test_recognition_and_synthesis(assistant):
  words = assistant.recognise([WAVEFORM, WAVEFORM[:4000]])
  assert len(words) == 2 and all(isinstance(text, str) for text in words)
  spoken = assistant.synthesise([("the dog", ALL_STYLES[0]), ("the star", ALL_STYLES[1])])
  assert all(len(one.units) and len(one.waveform) == 100 * len(one.units) for one in spoken)
  assert all(np.all(one.units[1:] != one.units[:-1]) for one in spoken)
  assert assistant.recognise([]) == []


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, dialogue, config, images):
  """A working folder with the vocabulary and a language stage trained for one step."""
  folder = tmp_path_factory.mktemp("work")
  dialogue.vocabulary.save(folder / "text" / "vocabulary.json")
  (folder / "text" / "tokenizer.model").write_bytes(dialogue.tokenizer._model)
  write_split(
    folder / "corpus" / "text", "train", [Example(f"text/{i}", "text", (Turn("user", "the dog"),)) for i in range(9)]
  )
  data = SequenceBatches(
    text=folder / "text",
    vocabulary_id=dialogue.vocabulary.fingerprint(),
    template=dialogue.template,
    layout=dialogue.layout,
    sources=(Source(folder=folder / "corpus" / "text", split="train", view="text", weight=1.0),),
    rows=1,
    length=16,
    patches=0,
    images=images,
    quarantine=folder / "quarantine.jsonl",
    seed=0,
  )
  optimizer = OptimizerConfig(
    learning_rate=1e-3, warmup_steps=1, weight_decay=0.0, clip_norm=1.0, beta1=0.9, beta2=0.99
  )
  train(Run(name="tune", model=config, loss=next_token, optimizer=optimizer, data=data, steps=1), folder)
  return folder


def test_loads_from_a_working_folder(workdir, speech, monkeypatch):
  parts = {"tokenizer": "tokenizer", "style": "style_encoder", "vocoder": "vocoder"}

  def load(folder, **options):
    return (None, speech[parts[folder.name]]) if folder.name in parts else load_model(folder, **options)

  monkeypatch.setattr(assistant_module, "load_model", load)
  monkeypatch.setattr(speech_stages, "load_model", load)
  assistant = Assistant.load(workdir)
  (answer,) = assistant.answer([Question(waveform=WAVEFORM)])
  assert answer.style is not None


def test_parts_of_other_units_are_refused(workdir, speech, monkeypatch):
  held = {"tokenizer": speech["tokenizer"], "vocoder": types.SimpleNamespace(sample_rate=16_000)}
  monkeypatch.setattr(speech_stages, "load_model", lambda folder: (None, held[folder.name]))
  with pytest.raises(UserError, match="'vocoder' holds a SimpleNamespace"):
    Assistant.load(workdir)
  other = FakeVocoder()
  other.codebook_size = 1000
  held["vocoder"] = other
  with pytest.raises(UserError, match="1 units a frame out of 1000"):
    Assistant.load(workdir)


def test_a_manner_that_the_vocoder_knows_takes_the_place_of_the_style(assistant):
  style, other = ALL_STYLES[3], ALL_STYLES[7]
  (plain,) = assistant.synthesise([("the dog", style)], readings=1)
  (changed,) = assistant.synthesise([("the dog", style)], readings=1, manner=other)
  np.testing.assert_array_equal(plain.units, changed.units)
  np.testing.assert_allclose(changed.waveform - plain.waveform, 4.0 * (len(plain.units) > 0), atol=1e-6)


def test_another_vocabulary_is_refused(workdir, dialogue, tmp_path):
  copy = shutil.copytree(workdir, tmp_path / "copy")
  units = dialogue.vocabulary.unit_ids[::-1].copy()
  dataclasses.replace(dialogue.vocabulary, unit_ids=units).save(copy / "text" / "vocabulary.json")
  with pytest.raises(UserError, match="another vocabulary"):
    load_language(copy, stage="tune")
  with pytest.raises(UserError, match="no such stage"):
    load_language(copy, stage="tuna")


def test_bad_questions_are_told(assistant):
  with pytest.raises(UserError, match="nothing asked"):
    assistant.answer([Question(text="  ")])
  with pytest.raises(UserError, match="empty text"):
    assistant.synthesise([(" ", ALL_STYLES[0])])
  for waveform in (np.zeros(10), np.zeros((2, 9000)), np.full(9000, np.nan)):
    with pytest.raises(UserError, match="a waveform of shape"):
      assistant.answer([Question(waveform=waveform)])
  with pytest.raises(UserError, match="cannot read image"):
    assistant.answer([Question(image=b"no picture")])
