import dataclasses
import json

import numpy as np
import pytest

from configs.emova import style as style_file
from configs.emova import tokenizer as tokenizer_file
from omni_jax.batches.utterances import Bucket
from omni_jax.build.units import EncodeConfig, encode_corpus, encode_examples
from omni_jax.checkpoint.store import load_model
from omni_jax.cli.main import main
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import decode_audio, encode_flac, save_wav
from omni_jax.prepare.quarantine import Rejected
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.train.loop import train

CONFIG = EncodeConfig(sets=("speech", "dialogue"))


def _sound(seed):
  waveform = 0.1 * np.random.default_rng(seed).normal(size=3200 + 640 * seed).clip(-3, 3)
  return encode_flac(waveform)


def _spoken(role, seed):
  return Turn(role, f"number {seed}", audio=_sound(seed), style="male-sad-low", phones="a b")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A corpus of a few noises, and both models after one step."""
  workdir = tmp_path_factory.mktemp("work")
  speech = [Example(id=f"s{seed}", task="speech", turns=(_spoken("user", seed),)) for seed in range(5)]
  talk = [Example(id="d", task="dialogue", turns=(_spoken("user", 1), _spoken("assistant", 2)))]
  for split in ("train", "test"):
    write_split(workdir / "corpus" / "speech", split, speech)
  write_split(workdir / "corpus" / "dialogue", "train", talk)
  (workdir / "corpus" / "phones.json").write_text(json.dumps(["a", "b"]))
  buckets = (Bucket(seconds=0.5, rows=2),)
  for file, sizes in (
    (tokenizer_file, {"stem_width": 8, "width": 8, "depth": 1, "decoder_width": 8, "decoder_depth": 1}),
    (style_file, {"width": 8, "depth": 1}),
  ):
    run = file.smoke(workdir)
    data = dataclasses.replace(run.data, buckets=buckets)
    train(dataclasses.replace(run, steps=1, data=data, model=dataclasses.replace(run.model, **sizes)), workdir)
  return workdir


def test_units_and_styles_are_those_of_the_models(workdir):
  said = []
  encode_corpus(CONFIG, workdir, say=said.append)
  assert said == [
    "speech/test: 5 records encoded",
    "speech/train: 5 records encoded",
    "dialogue/train: 1 records encoded",
  ]
  tokenizer, style_encoder = (load_model(workdir / "stages" / name)[1] for name in ("tokenizer", "style"))
  source, encoded = (open_set(workdir / folder / "dialogue", "train")[0] for folder in ("corpus", "units"))
  assert encoded.id == source.id and len(encoded.turns) == 2
  for before, after in zip(source.turns, encoded.turns, strict=True):
    waveform = decode_audio(before.audio)
    np.testing.assert_array_equal(after.units, tokenizer.encode(waveform))
    assert after.heard == str(style_encoder.hear(waveform))
    assert (after.role, after.text, after.style, after.audio) == (before.role, before.text, before.style, b"")


def test_sound_stays_in_test_splits_only(workdir):
  encode_corpus(CONFIG, workdir, say=lambda _: None)
  kept = {split: open_set(workdir / "units" / "speech", split)[0].turns[0].audio for split in ("train", "test")}
  assert not kept["train"] and kept["test"] == _sound(0)


def test_only_what_changed_is_encoded_again(workdir):
  encode_corpus(CONFIG, workdir, say=lambda _: None)
  said = []
  encode_corpus(CONFIG, workdir, say=said.append)
  assert said == ["units of speech, dialogue: already encoded"]
  talk = [Example(id="e", task="dialogue", turns=(_spoken("user", 3), _spoken("assistant", 4)))]
  write_split(workdir / "corpus" / "dialogue", "train", talk)
  said.clear()
  encode_corpus(CONFIG, workdir, say=said.append)
  assert said == ["dialogue/train: 1 records encoded"]
  assert open_set(workdir / "units" / "dialogue", "train")[0].id == "e"


def test_the_command_line_does_the_same(workdir, capsys):
  assert main(["encode", "--workdir", str(workdir), "--sets", "speech"]) == 0
  assert capsys.readouterr().out.splitlines()[-1] == str(workdir / "units")


@pytest.mark.parametrize(
  ("change", "message"),
  [({"sets": ("none",)}, "omni corpus"), ({"tokenizer": "none"}, "none"), ({"style": "none"}, "none")],
)
def test_what_is_missing_is_told(workdir, change, message):
  with pytest.raises(UserError, match=message):
    encode_corpus(dataclasses.replace(CONFIG, **change), workdir)


class _Fake:
  """Units: the number of samples. Style: by the parity of the number of samples."""

  def encode_batch(self, waveforms):
    return [np.array([len(waveform)], np.int32) for waveform in waveforms]

  def time_batch(self, waveforms, units):
    assert [row.tolist() for row in units] == [[len(waveform)] for waveform in waveforms], "each with its own units"
    return [np.array([len(waveform) // 160], np.int32) for waveform in waveforms]

  def hear_batch(self, waveforms):
    return [Style("male", "sad", "low" if len(waveform) % 1280 else "high") for waveform in waveforms]


def test_written_turns_between_spoken_ones_are_left_alone():
  mixed = Example(id="m", task="dialogue", turns=(Turn("user", "hello"), _spoken("assistant", 1)))
  plain = Example(id="p", task="text", turns=(Turn("user", "hello"),))
  encoded = list(encode_examples([plain, mixed, plain], _Fake(), _Fake(), keep_audio=True))
  assert encoded[0] == encoded[2] == plain and encoded[1].turns[0] == mixed.turns[0]
  assert encoded[1].turns[1].units.tolist() == [3840] and encoded[1].turns[1].heard == "male-sad-high"
  assert encoded[1].turns[1].audio == mixed.turns[1].audio


def test_turns_of_the_asked_voices_are_timed():
  turns = tuple(dataclasses.replace(_spoken("user", seed), voice=voice) for seed, voice in enumerate("aba", 1))
  example = Example(id="m", task="dialogue", turns=turns)
  (encoded,) = encode_examples([example], _Fake(), _Fake(), keep_audio=False, timed_voices=("a",))
  assert [turn.unit_frames.tolist() for turn in encoded.turns] == [[24], [], [32]]
  assert [turn.units.tolist() for turn in encoded.turns] == [[3840], [4480], [5120]]


def test_a_recording_that_no_model_reads_is_put_aside():
  class Strict(_Fake):
    def encode_batch(self, waveforms):
      if any(len(waveform) < 4000 for waveform in waveforms):
        raise UserError("too short", where="sound", rule="4000 samples", remedy="none")
      return super().encode_batch(waveforms)

  long, short = (Example(name, "speech", (_spoken("user", seed),)) for name, seed in (("long", 2), ("short", 1)))
  results = encode_examples([long, short, long], Strict(), None, keep_audio=False)
  assert results[1] == Rejected("short", "too short (sound): 4000 samples")
  assert [results[place].turns[0].units.tolist() for place in (0, 2)] == [[4480]] * 2 and not results[0].turns[0].heard


def test_units_of_any_folder(workdir, tmp_path, capsys):
  waveforms = [decode_audio(_sound(seed)) for seed in range(3)]
  for number, waveform in enumerate(waveforms):
    save_wav(tmp_path / "wavs" / f"{number}.wav", waveform)
  (tmp_path / "wavs" / "0.txt").write_text("Quiet, please!")
  (tmp_path / "wavs" / "3.wav").write_bytes(b"RIFF")
  command = ["units", "--source", f"folder:{tmp_path / 'wavs'}", "--name", "mine", "--workdir", str(workdir)]
  assert main(command) == 2  # one of four files is no sound
  assert "1 of 4 records cannot be used" in capsys.readouterr().err
  assert main([*command, "--max-rejected", "0.3", "--keep-audio"]) == 2  # it was begun with other settings
  assert "begun with another" in capsys.readouterr().err
  assert main([*command, "--max-rejected", "0.3"]) == 0
  source = open_set(workdir / "units" / "mine", "train")
  tokenizer, style_encoder = (load_model(workdir / "stages" / name)[1] for name in ("tokenizer", "style"))
  for record, waveform in zip(source, waveforms, strict=True):
    (turn,) = record.turns
    np.testing.assert_array_equal(turn.units, tokenizer.encode(waveform))
    assert turn.heard == str(style_encoder.hear(waveform)) and not turn.audio
  assert (source[0].task, source[0].turns[0].text, source[1].task) == ("speech", "quiet please", "recording")
  assert "3.wav" in (workdir / "units" / "mine" / "quarantine-train.jsonl").read_text()


def test_lengths_of_texts_are_counted_on_the_timed_voices(workdir, monkeypatch):
  rows = []
  monkeypatch.setattr("omni_jax.build.units.fit", lambda recordings: rows.extend(recordings))
  (workdir / "units" / "lengths.json").write_text("old")
  encode_corpus(dataclasses.replace(CONFIG, timed_voices=("",)), workdir)
  source = open_set(workdir / "units" / "speech", "train")
  assert len(rows) == 7  # five utterances, two turns
  assert ("number 0", Style("male", "sad", "low"), pytest.approx(len(source[0].turns[0].units) / 25)) in rows
  assert not (workdir / "units" / "lengths.json").exists()  # too few to tell
