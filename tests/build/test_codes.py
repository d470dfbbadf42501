import dataclasses

import numpy as np
import pytest

from omni_jax.build import codes as coding
from omni_jax.build.codes import code_corpus
from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.checkpoint.store import Store
from omni_jax.cli.main import main
from omni_jax.convert.stage import Imported
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio, encode_flac
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from tests.generate.test_row_assistant import CODEC
from tests.models.drawn import drawn


class Loudness:
  """A codec of two codes a frame of 2,400 samples, at 24 kHz: the frame's number and its loudness."""

  sample_rate = 24_000
  coded = 0

  def encode(self, waveform):
    self.coded += 1
    frames = waveform[: len(waveform) // 2400 * 2400].reshape(-1, 2400)
    loud = np.sqrt((frames**2).mean(axis=1)) * 100
    return np.stack([np.arange(len(frames)), loud], axis=1).astype(np.int32)


def test_sound_gets_its_codes_and_stays(tmp_path, monkeypatch):
  codec, said = Loudness(), []
  monkeypatch.setattr(coding, "load_codec", lambda workdir, *, stage, vocoder: codec)
  monkeypatch.setattr(coding, "read_card", lambda stage: {"fingerprint": stage.name})
  monkeypatch.setattr(coding, "require_step", lambda stage: 3)
  tone = encode_flac(0.5 * np.sin(np.arange(8000) * 0.3))
  turns = (Turn("user", "a", audio=tone), Turn("assistant", "b"))
  records = [Example(f"x/{i}", "text", turns) for i in range(2)]
  write_split(tmp_path / "corpus" / "talk", "train", records)
  folder = code_corpus(["talk"], tmp_path, stage="loudness", say=said.append)
  (first, silent), _ = (open_set(folder / "talk", "train")[i].turns for i in range(2))
  codes = first.units.reshape(-1, 2)
  assert first.audio == tone and not len(silent.units)
  assert codes[:, 0].tolist() == [0, 1, 2, 3, 4]  # half a second
  assert abs(int(codes[2, 1]) - 35) <= 1  # a tone of amplitude 0.5
  code_corpus(["talk"], tmp_path, stage="loudness", say=said.append)
  assert codec.coded == 2 and "already there" in said[-1]
  with pytest.raises(UserError, match="codes of loudness@3"):
    code_corpus(["talk"], tmp_path, stage="snac")
  (folder / "talk" / "coded.json").write_text('{"train":')
  with pytest.raises(UserError, match="damaged"):
    code_corpus(["talk"], tmp_path, stage="loudness")
  with pytest.raises(UserError, match="no records"):
    code_corpus(["other"], tmp_path, stage="snac")


def test_a_recording_that_no_codec_reads_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(coding, "load_codec", lambda workdir, *, stage, vocoder: Loudness())
  monkeypatch.setattr(coding, "read_card", lambda stage: {"fingerprint": "loudness"})
  monkeypatch.setattr(coding, "require_step", lambda stage: 3)
  records = [Example(f"x/{i}", "text", (Turn("user", "a", audio=b"fLaC no sound"),)) for i in range(2)]
  write_split(tmp_path / "corpus" / "talk", "train", records)
  with pytest.raises(UserError, match=r"2 of 2 records cannot be used:\n.*x/0: cannot read audio"):
    code_corpus(["talk"], tmp_path, stage="loudness", say=lambda _: None)
  assert not (tmp_path / "codes" / "talk" / "dataset_info.json").exists()


def test_the_codec_of_a_stage_codes_a_corpus_by_command(tmp_path, capsys):
  config = dataclasses.replace(CODEC, sample_rate=16_000)
  store = Store(tmp_path / "stages" / "snac", keep=1)
  codec = drawn(config)
  store.save(0, params=trees.flatten(codec), moments=None, position={"step": 0})
  store.close()
  run = Imported(name="snac", model=config, source=tmp_path)
  write_card(tmp_path / "stages" / "snac", make_card(run, workdir=tmp_path, ignored=("source",), starts=()))
  sound = 0.3 * np.random.default_rng(0).standard_normal(1000)
  turns = (Turn("user", "a", audio=encode_flac(sound)),)
  write_split(tmp_path / "corpus" / "talk", "train", [Example("x", "speech", turns)])
  assert main(["encode", "--workdir", str(tmp_path), "--sets", "talk", "--codec", "snac"]) == 0
  assert "1 records coded" in capsys.readouterr().out
  coded = open_set(tmp_path / "codes" / "talk", "train")[0].turns[0]
  expected = codec.encode(decode_audio(coded.audio))
  np.testing.assert_array_equal(coded.units.reshape(-1, 7), expected)
  assert len(expected) == -(-1000 // codec.hop)
