import numpy as np
import pytest

from omni_jax.build.codes import CodesConfig, code_corpus
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split


class Loudness:
  """A codec of two codes a frame of 2,400 samples, at 24 kHz: the frame's number and its loudness."""

  sample_rate = 24_000
  coded = 0

  def encode(self, waveform):
    self.coded += 1
    frames = waveform[: len(waveform) // 2400 * 2400].reshape(-1, 2400)
    loud = np.sqrt((frames**2).mean(axis=1)) * 100
    return np.stack([np.arange(len(frames)), loud], axis=1).astype(np.int32)


def test_sound_gets_its_codes_and_stays(tmp_path):
  tone = encode_flac(0.5 * np.sin(np.arange(8000) * 0.3))
  turns = (Turn("user", "a", audio=tone), Turn("assistant", "b"))
  records = [Example(f"x/{i}", "text", turns) for i in range(2)]
  write_split(tmp_path / "corpus" / "talk", "train", records)
  codec, said = Loudness(), []
  config = CodesConfig(sets=("talk",), codec="loudness")
  folder = code_corpus(config, tmp_path, codec=codec, say=said.append)
  (first, silent), _ = (open_set(folder / "talk", "train")[i].turns for i in range(2))
  codes = first.units.reshape(-1, 2)
  assert first.audio == tone and not len(silent.units)
  assert codes[:, 0].tolist() == [0, 1, 2, 3, 4]  # half a second
  assert abs(int(codes[2, 1]) - 35) <= 1  # a tone of amplitude 0.5
  code_corpus(config, tmp_path, codec=codec, say=said.append)
  assert codec.coded == 2 and "already there" in said[-1]
  with pytest.raises(UserError, match="codes of loudness"):
    code_corpus(CodesConfig(sets=("talk",), codec="snac"), tmp_path, codec=codec)
  with pytest.raises(UserError, match="no records"):
    code_corpus(CodesConfig(sets=("other",), codec="snac"), tmp_path, codec=codec)
