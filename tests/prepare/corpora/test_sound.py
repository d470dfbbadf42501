import dataclasses

import numpy as np
import pytest
import soundfile

from omni_jax.core.errors import UserError
from omni_jax.prepare import audio
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.corpora.entries import LIMITS, inside
from omni_jax.prepare.corpora.sound import read_speech
from omni_jax.prepare.corpora.words import spoken_words
from tests.prepare.corpora.fixtures import noise, save_sound, sound_bytes


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_any_common_format_becomes_flac(kind):
  flac = read_speech(sound_bytes(kind, 0.5, sample_rate=44100), limits=LIMITS)
  assert flac[:4] == b"fLaC" and len(decode_audio(flac)) == pytest.approx(8000, abs=600)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_what_is_cut_short_is_refused(kind):
  whole = sound_bytes(kind, 2.0)
  for share in (0.9, 0.5, 0.01):
    with pytest.raises(UserError, match=r"cut short|cannot read"):
      read_speech(whole[: int(share * len(whole))], limits=LIMITS)


def test_length_is_known_before_anything_is_decoded(tmp_path, monkeypatch):
  path = tmp_path / "hour.flac"
  with soundfile.SoundFile(path, "w", samplerate=8000, channels=1) as file:  # a megabyte that would be 115
    for _ in range(3600):
      file.write(np.zeros(8000, np.float32))
  monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
  with pytest.raises(UserError, match="28800000 samples"):
    read_speech(path, limits=LIMITS)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "cannot read"),
    (b"PK\x03\x04" + bytes(2000), "cannot read"),
    (sound_bytes("WAV", 0.05), "0.050 seconds"),
    (sound_bytes("WAV", 61.0, sample_rate=8000), "488000 samples"),
  ],
)
def test_what_cannot_be_used_is_told(data, message):
  with pytest.raises(UserError, match=message):
    read_speech(data, limits=LIMITS)


def test_what_is_too_large_is_not_opened(tmp_path):
  with pytest.raises(UserError, match="at most 100 bytes"):
    read_speech(sound_bytes(), limits=dataclasses.replace(LIMITS, max_bytes=100))
  save_sound(tmp_path / "a.wav")  # of a file only the part that is asked for is read
  assert read_speech(tmp_path / "a.wav", limits=dataclasses.replace(LIMITS, max_bytes=100))


def test_many_channels_are_not_decoded(tmp_path, monkeypatch):
  monkeypatch.setattr(audio, "_MOST_VALUES", 10000)
  save_sound(tmp_path / "a.wav", channels=4)
  with pytest.raises(UserError, match="12800 samples in all channels"):
    read_speech(tmp_path / "a.wav", limits=LIMITS)


def test_samples_that_are_no_numbers(tmp_path):
  samples = noise()
  samples[7] = np.nan
  soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
  with pytest.raises(UserError, match="not numbers"):
    read_speech(tmp_path / "a.wav", limits=LIMITS)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_damaged_anywhere_it_is_sound_or_told(kind):
  data, generator = sound_bytes(kind, 0.3), np.random.default_rng(1)
  for _ in range(40):
    damaged = bytearray(data)
    for place in generator.integers(0, min(len(data), 200), 3):
      damaged[place] = generator.integers(256)
    try:
      assert len(decode_audio(read_speech(bytes(damaged), limits=LIMITS)))
    except UserError as error:
      assert error.where


def test_a_name_that_says_another_format(tmp_path):
  (tmp_path / "a.mp3").write_bytes(sound_bytes("FLAC"))
  with pytest.raises(UserError, match="content is FLAC"):
    read_speech(tmp_path / "a.mp3", limits=LIMITS)
  assert read_speech(tmp_path / "a.mp3", limits=dataclasses.replace(LIMITS, any_name=True))


def test_paths_stay_in_their_root(tmp_path):
  root = tmp_path / "root"
  save_sound(root / "in.wav")
  save_sound(tmp_path / "out.wav")
  (root / "link.wav").symlink_to(tmp_path / "out.wav")
  (root / "near.wav").symlink_to(root / "in.wav")
  assert inside(root, "a/../in.wav") == inside(root, "near.wav") == inside(root, str(root / "in.wav"))
  for name in ("../out.wav", str(tmp_path / "out.wav"), "link.wav", "a\0b"):
    with pytest.raises(UserError, match=r"out of the corpus|zero byte"):
      inside(root, name)
  with pytest.raises(UserError, match="no such file"):
    inside(root, "none.wav")


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("DON'T — “STOP”", "don't stop"),
    ("rock 'n' roll's", "rock n roll's"),
    ("而 对，楼市 OK 吗", "而对楼市 ok 吗"),
    ("ＡＢＣ １２", "abc 12"),
  ],
)
def test_words_as_they_are_spoken(text, words):
  assert spoken_words(text, where="") == words


def test_no_words():
  with pytest.raises(UserError, match="no words"):
    spoken_words("?! ...", where="x")
  with pytest.raises(UserError, match="half a character"):
    spoken_words("\ud83d", where="x")
