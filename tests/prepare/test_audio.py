import struct

import numpy as np
import pytest
import soundfile

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio, encode_flac, load_audio, save_wav


def tone(seconds=0.2, sample_rate=SAMPLE_RATE, hz=440.0):
  return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * sample_rate)) / sample_rate)).astype(np.float32)


def test_flac_keeps_sixteen_bits():
  assert np.abs(decode_audio(encode_flac(tone())) - tone()).max() < 1e-4


def test_wav_round_trip_makes_the_folder_and_clips(tmp_path):
  path = tmp_path / "new" / "a.wav"
  save_wav(path, 4 * tone())
  assert np.abs(load_audio(path) - np.clip(4 * tone(), -1, 1)).max() < 1e-3


@pytest.mark.parametrize("sample_rate", [8000, 22050, 44100, 48000])
def test_any_rate_and_stereo_come_to_one_channel_at_sixteen_kilohertz(tmp_path, sample_rate):
  path = tmp_path / "a.wav"
  soundfile.write(path, np.stack([tone(1.0, sample_rate)] * 2, axis=1), sample_rate)
  waveform = load_audio(path)
  assert waveform.dtype == np.float32
  assert abs(len(waveform) - SAMPLE_RATE) <= 2
  middle = slice(4000, 12000)
  assert np.abs(waveform[middle] - tone(1.0)[middle]).max() < 0.02


def test_a_part_may_ask_for_its_own_rate(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(1.0, 48000), 48000)
  waveform = load_audio(tmp_path / "a.wav", sample_rate=24000)
  assert abs(len(waveform) - 24000) <= 2
  assert np.abs(waveform[6000:18000] - tone(1.0, 24000)[6000:18000]).max() < 0.02
  assert abs(len(decode_audio(encode_flac(tone(1.0)), sample_rate=24000)) - 24000) <= 2


def test_long_files_are_read_in_blocks(tmp_path, monkeypatch):
  stereo = np.stack([tone(2.5), -0.5 * tone(2.5, hz=300.0)], axis=1)
  soundfile.write(tmp_path / "a.wav", stereo, SAMPLE_RATE, subtype="FLOAT")
  whole = load_audio(tmp_path / "a.wav")
  np.testing.assert_array_equal(whole, stereo.mean(axis=1))
  monkeypatch.setattr("omni_jax.prepare.audio._BLOCK_VALUES", 2 * SAMPLE_RATE)
  np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), whole)


def test_a_codec_that_the_reader_lacks_is_told(tmp_path):
  """A WAV file that says it holds Windows Media Audio, and the first bytes of an MP4."""
  form = struct.pack("<HHIIHH", 0x0161, 1, SAMPLE_RATE, 4000, 1, 16)
  body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", 64) + bytes(64)
  (tmp_path / "wma.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
  (tmp_path / "a.m4a").write_bytes(struct.pack(">I", 24) + b"ftypM4A \0\0\0\0M4A isom" + bytes(200))
  for name in ("wma.wav", "a.m4a"):
    with pytest.raises(UserError, match="cannot read audio"):
      load_audio(tmp_path / name)


def test_bad_files_give_one_clear_message(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    load_audio(tmp_path / "none.wav")
  (tmp_path / "text.wav").write_text("not a sound")
  with pytest.raises(UserError, match="cannot read audio"):
    load_audio(tmp_path / "text.wav")
  soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), SAMPLE_RATE)
  with pytest.raises(UserError, match="no samples"):
    load_audio(tmp_path / "empty.wav")
  soundfile.write(tmp_path / "slow.wav", tone(), 100)
  with pytest.raises(UserError, match="sample rate 100 Hz"):
    load_audio(tmp_path / "slow.wav")
  soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), SAMPLE_RATE, subtype="FLOAT")
  with pytest.raises(UserError, match="not numbers"):
    load_audio(tmp_path / "nan.wav")
  with pytest.raises(UserError, match="cannot read audio"):
    decode_audio(encode_flac(tone())[:30])
