"""The steps around an assistant, with one whose answers are known; `tests/generate` has the assistant itself."""

import numpy as np
import pytest

from omni_jax.build import trained
from omni_jax.build.speaking import Spoken
from omni_jax.build.trained import AssistantVoices, Captioned, Trained, Transcribed
from omni_jax.core.errors import UserError
from omni_jax.generate.exchange import Answer, SpokenText
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio, encode_flac
from omni_jax.prepare.quarantine import Rejected
from omni_jax.prepare.schema import Example, Turn, validate
from tests.prepare.corpora.fixtures import picture_bytes


class Known:
  """Says a tone for each letter at 8 kHz, hears how loud a recording is, and sees its question."""

  def __init__(self):
    self.vocoder, self.batches = self, []
    self.sample_rate = SAMPLE_RATE // 2

  def synthesise(self, texts):
    self.batches.append(len(texts))
    made = []
    for text, style in texts:
      wave = (0.3 if style.gender == "female" else 0.1) * np.sin(np.arange(800 * len(text)) * 0.3).astype(np.float32)
      problem = "no end" if "endless" in text else ""
      made.append(SpokenText(units=np.zeros(1, np.int32), waveform=wave, problem=problem))
    return made

  def recognise(self, waveforms):
    return ["loud words" if np.abs(wave).max() > 0.2 else " " for wave in waveforms]

  def answer(self, questions):
    return [Answer(text="" if question.text == "silence" else f"{question.text}: a dog") for question in questions]


@pytest.fixture
def known(monkeypatch):
  assistant = Known()
  monkeypatch.setattr(trained, "_loaded", lambda workdir, stage: assistant)
  return assistant


def tone(loudness):
  return encode_flac(loudness * np.sin(np.arange(4000) * 0.3))


def test_the_assistant_speaks_a_batch_at_once(known, tmp_path):
  step = Spoken(voices=AssistantVoices(trained=Trained(workdir=tmp_path))).open()
  pairs = [("hi", "hello"), ("hey", "endless"), ("you", "yes")]
  examples = [
    Example(str(number), "text", (Turn("user", asked), Turn("assistant", said)))
    for number, (asked, said) in enumerate(pairs)
  ]
  first, bad, last = step(examples)
  assert known.batches[0] == 6 and isinstance(bad, Rejected) and "no end" in bad.reason
  for example, texts in ((first, pairs[0]), (last, pairs[2])):
    assert validate(example).task == "dialogue"
    assert [len(decode_audio(turn.audio)) for turn in example.turns] == [1600 * len(text) for text in texts]  # 16 kHz
    assert all(turn.voice == f"assistant:{turn.style.partition('-')[0]}" for turn in example.turns)


def test_recordings_get_words_and_utterances_keep_theirs(known, tmp_path):
  examples = [
    Example("a", "recording", (Turn("user", "", audio=tone(0.5)),)),
    Example("b", "recording", (Turn("user", "", audio=tone(0.1)),)),
    Example("c", "speech", (Turn("user", "its own", audio=tone(0.1)),)),
  ]
  heard, silent, kept = Transcribed(trained=Trained(workdir=tmp_path)).open()(examples)
  assert validate(heard).task == "speech" and heard.turns[0].text == "loud words"
  assert isinstance(silent, Rejected) and "nothing was heard" in silent.reason
  assert kept == examples[2]


def test_pictures_get_captions_and_captions_stay(known, tmp_path):
  def picture(id, asked, said):
    return Example(id, "caption", (Turn("user", asked), Turn("assistant", said)), picture_bytes())

  examples = [picture("a", "", ""), picture("b", "what", ""), picture("c", "silence", ""), picture("d", "", "a cat")]
  bare, asked, mute, kept = Captioned(trained=Trained(workdir=tmp_path)).open()(examples)
  assert [turn.text for turn in validate(bare).turns] == ["what do you see", "what do you see: a dog"]
  assert asked.turns[1].text == "what: a dog" and kept == examples[3]
  assert isinstance(mute, Rejected) and "no words" in mute.reason


def test_pictures_with_other_turns_are_put_aside_alone(known, tmp_path):
  turns = (Turn("user", ""), Turn("assistant", "a cat"), Turn("user", "and"), Turn("assistant", ""))
  examples = [
    Example("a", "annotations", turns, picture_bytes()),
    Example("b", "caption", turns[-1:], picture_bytes()),
    Example("c", "caption", (Turn("user", " "), Turn("assistant", " ")), picture_bytes()),
  ]
  several, alone, bare = Captioned(trained=Trained(workdir=tmp_path)).open()(examples)
  for rejected in (several, alone):
    assert isinstance(rejected, Rejected) and "turns of" in rejected.reason
  assert bare.turns[0].text == "what do you see"


def test_a_folder_without_stages_is_told(tmp_path):
  with pytest.raises(UserError):
    _ = Trained(workdir=tmp_path).mark
