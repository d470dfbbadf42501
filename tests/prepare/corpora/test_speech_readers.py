import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.corpora.aishell import Aishell
from omni_jax.prepare.corpora.common_voice import CommonVoice
from omni_jax.prepare.corpora.folder import SoundFolder
from omni_jax.prepare.corpora.kaldi import Kaldi
from omni_jax.prepare.corpora.librispeech import LibriSpeech
from omni_jax.prepare.corpora.ljspeech import LJSpeech
from omni_jax.prepare.corpora.nemo import Nemo
from omni_jax.prepare.schema import validate
from tests.prepare.corpora.fixtures import read_all, save_sound, seconds_of, write


def test_librispeech(tmp_path):
  folder = tmp_path / "dev-clean" / "84" / "121123"
  write(folder / "84-121123.trans.txt", "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN FIVE\n")
  samples = save_sound(folder / "84-121123-0000.flac", seed=1)
  found = read_all(LibriSpeech(root=tmp_path))
  example = validate(found["84-121123-0000"])
  (turn,) = example.turns
  assert (example.task, turn.role, turn.text, turn.voice) == ("speech", "user", "go do you hear", "librispeech:84")
  np.testing.assert_allclose(decode_audio(turn.audio), samples, atol=1e-4)
  assert found["84-121123-0001"] == "no such file"


def test_aishell_1_with_a_recording_that_nobody_wrote_down(tmp_path):
  write(tmp_path / "transcript" / "aishell_transcript_v0.8.txt", "BAC009S0002W0122 而 对 楼市 成交\n")
  for name in ("BAC009S0002W0122", "BAC009S0002W0123"):
    save_sound(tmp_path / "wav" / "train" / "S0002" / f"{name}.wav")
  found = read_all(Aishell(root=tmp_path, part="train"))
  (turn,) = found["BAC009S0002W0122"].turns
  assert (turn.text, turn.voice) == ("而对楼市成交", "aishell:S0002")
  assert found["BAC009S0002W0123"] == "no transcript"


def test_aishell_2(tmp_path):
  write(tmp_path / "trans.txt", "IC0001W0001\t厨房用品\n")
  save_sound(tmp_path / "wav" / "C0001" / "IC0001W0001.wav")
  assert read_all(Aishell(root=tmp_path))["IC0001W0001"].turns[0].text == "厨房用品"


def test_kaldi_with_segments(tmp_path):
  write(tmp_path / "wav.scp", "r1 audio/r1.wav\nr2 sox x.wav -t wav - |\nr3 ../out.wav\n")
  write(
    tmp_path / "segments",
    "u1 r1 0.25 0.75\nu2 r1 0.5 9.0\nu3 r2 0 1\nu4 r3 0 1\nu5 r9 0 1\nu6 r1 nan 1\nu8 r1 0.5 -1\n",
  )
  write(tmp_path / "utt2spk", "u1 anna\n")
  write(tmp_path / "text", "".join(f"u{number} HELLO WORLD\n" for number in range(1, 9)))
  samples = save_sound(tmp_path / "audio" / "r1.wav", 1.0)
  save_sound(tmp_path.parent / "out.wav")
  found = read_all(Kaldi(root=tmp_path))
  np.testing.assert_allclose(decode_audio(found["u1"].turns[0].audio), samples[4000:12000], atol=1e-4)
  assert found["u1"].turns[0].voice == "kaldi:anna" and seconds_of(found["u8"]) == 0.5
  expected = {"u2": "samples 8000 to 144000", "u3": "a command", "u4": "out of the corpus", "u5": "not in wav.scp",
              "u6": "times", "u7": "no line of segments"}  # fmt: skip
  for name, message in expected.items():
    assert message in found[name], name


def test_kaldi_without_segments_and_tables_that_are_wrong(tmp_path):
  write(tmp_path / "wav.scp", "u1 u1.wav\n")
  write(tmp_path / "text", b"u1 HI\nu2 \xff\n")
  save_sound(tmp_path / "u1.wav", sample_rate=8000, channels=2)
  found = read_all(Kaldi(root=tmp_path))
  assert seconds_of(found["u1"]) == pytest.approx(0.2) and "no UTF-8" in found["text:2"]
  write(tmp_path / "wav.scp", "u1 u1.wav\nu1 u2.wav\n")
  with pytest.raises(UserError, match="occurs twice"):
    read_all(Kaldi(root=tmp_path))
  write(tmp_path / "wav.scp", b"u1 \xff\n")
  with pytest.raises(UserError, match="no UTF-8"):
    read_all(Kaldi(root=tmp_path))


def test_nemo(tmp_path):
  items = [
    {"audio_filepath": "a.wav", "duration": 1.0, "text": "One Two", "speaker": 7},
    {"audio_filepath": str(tmp_path / "a.wav"), "duration": 0.5, "offset": 0.25, "text": "part"},
    {"audio_filepath": "/etc/passwd", "duration": 1, "text": "out"},
    {"audio_filepath": "a.wav", "duration": "long", "offset": 1, "text": "no time"},
    {"audio_filepath": "a.wav", "duration": 1.0, "text": " "},
    ["no object"],
  ]
  save_sound(tmp_path / "a.wav", 1.0)
  write(tmp_path / "train.json", "\n".join(map(json.dumps, items)) + "\n{broken\n")
  found = read_all(Nemo(manifest=tmp_path / "train.json"))
  assert found["train/1"].turns[0].text == "one two" and found["train/1"].turns[0].voice == "nemo:7"
  assert seconds_of(found["train/2"]) == 0.5
  reasons = [found[f"train/{line}"] for line in range(3, 8)]
  for reason, message in zip(
    reasons, ("out of the corpus", "duration 'long'", "no text", "no audio_", "no JSON"), strict=True
  ):
    assert message in reason


def test_ljspeech(tmp_path):
  write(tmp_path / "metadata.csv", 'LJ1|In 1 "x", he|In one "x," he said\nLJ2|only\nbroken\n')
  save_sound(tmp_path / "wavs" / "LJ1.wav", sample_rate=22050)
  found = read_all(LJSpeech(root=tmp_path))
  assert found["LJ1"].turns[0].text == "in one x he said"
  assert found["LJ2"] == "no such file" and "1 columns" in found["metadata.csv:3"]


def test_common_voice_finds_columns_by_name(tmp_path):
  header = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"
  write(tmp_path / "dev.tsv", header + "f00d\tcv_1.mp3\t9\tHallo, it’s me.\t2\nf00d\tcv_2.mp3\n")
  save_sound(tmp_path / "clips" / "cv_1.mp3", 0.5, sample_rate=32000)
  found = read_all(CommonVoice(root=tmp_path, part="dev"))
  assert found["cv_1"].turns[0].text == "hallo it's me" and found["cv_1"].turns[0].voice == "common_voice:f00d"
  assert "2 columns" in found["dev.tsv:3"]
  with pytest.raises(UserError, match="no such file"):
    read_all(CommonVoice(root=tmp_path))
  write(tmp_path / "dev.tsv", "path\tsentence\n")
  with pytest.raises(UserError, match="no column client_id"):
    read_all(CommonVoice(root=tmp_path, part="dev"))


def test_a_folder_of_anything(tmp_path):
  save_sound(tmp_path / "b" / "2.ogg", 0.5)
  save_sound(tmp_path / "a" / "1.wav")
  write(tmp_path / "a" / "1.txt", "Hello!\n")
  write(tmp_path / "a" / "notes.md", "no sound")
  found = read_all(SoundFolder(root=tmp_path))
  assert list(found) == ["a/1", "b/2"]
  assert (found["a/1"].task, found["a/1"].turns[0].text) == ("speech", "hello")
  assert (validate(found["b/2"]).task, found["b/2"].turns[0].text) == ("recording", "")


@pytest.mark.parametrize("reader", [LibriSpeech, Aishell, Kaldi, LJSpeech, CommonVoice, SoundFolder])
def test_what_is_not_there_is_told(tmp_path, reader):
  with pytest.raises(UserError, match="no such"):
    list(reader(root=tmp_path / "none").entries())
  with pytest.raises(UserError, match=r"nothing to read|no such|no transcripts"):
    list(reader(root=tmp_path).entries())
