import io
import sys

import miniaudio
import numpy as np
import pytest
import soundfile

from omni_jax.batches import sounds
from omni_jax.batches.sounds import Sounds, sounding_turns
from omni_jax.core.errors import UserError
from omni_jax.prepare import audio
from omni_jax.prepare.audio import decode_audio, decode_pcm, encode_flac, from_pcm, to_pcm
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split


def test_samples_are_those_that_come_through_floats():
  every = np.arange(-32768, 32768).astype(np.int16)
  buffer = io.BytesIO()
  soundfile.write(buffer, every, 16000, format="FLAC", subtype="PCM_16")
  np.testing.assert_array_equal(decode_pcm(buffer.getvalue()), to_pcm(decode_audio(buffer.getvalue())))
  for rate, channels, subtype in ((8000, 1, "PCM_16"), (16000, 2, "PCM_16"), (16000, 1, "PCM_24")):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([every[::9]] * channels, axis=1), rate, format="FLAC", subtype=subtype)
    np.testing.assert_array_equal(decode_pcm(buffer.getvalue()), to_pcm(decode_audio(buffer.getvalue())))
  for data in (b"fLaC", b""):
    with pytest.raises(UserError, match="cannot read audio"):
      decode_pcm(data)


def test_flac_of_records_is_decoded_to_the_bit_by_either_decoder(monkeypatch):
  wave = (0.4 * np.sin(np.arange(20_000) / 9) + 0.1 * np.random.default_rng(0).normal(size=20_000)).astype(np.float32)
  data = encode_flac(wave)
  expected = to_pcm(decode_audio(data))
  monkeypatch.setattr(audio, "decode_audio", lambda data: pytest.fail("the quick decoder reads what records hold"))
  np.testing.assert_array_equal(decode_pcm(data), expected)
  monkeypatch.undo()
  monkeypatch.setitem(sys.modules, "miniaudio", None)
  np.testing.assert_array_equal(decode_pcm(data), expected)


def test_a_head_that_promises_too_much_is_left_to_the_decoder_that_reads_in_blocks(monkeypatch):
  monkeypatch.setattr(audio, "_MOST_VALUES", 10_000)
  asked = []
  quick = miniaudio.flac_read_s16
  monkeypatch.setattr(miniaudio, "flac_read_s16", lambda data: asked.append(len(data)) or quick(data))
  for size, expected in ((10_000, 1), (10_001, 1)):
    assert len(decode_pcm(encode_flac(np.zeros(size, np.float32)))) == size
    assert len(asked) == expected
  data = bytearray(encode_flac(np.zeros(10_000, np.float32)))
  data[21] |= 0xF  # the highest bits of the number of samples: 64 G of them
  with pytest.raises(UserError, match="cannot read audio"):
    decode_pcm(bytes(data))
  assert len(asked) == 1


def test_a_damaged_frame_is_told(monkeypatch):
  data = bytearray(encode_flac(0.3 * np.random.default_rng(0).normal(size=20_000).clip(-3, 3)))
  data[len(data) // 2] ^= 4
  for cut in (bytes(data), bytes(data[:-10])):
    with pytest.raises(UserError, match="cannot read audio"):
      decode_pcm(cut)


def test_what_fits_is_decoded_once_and_the_rest_each_time(tmp_path, monkeypatch):
  monkeypatch.setattr(sounds, "KEPT_SAMPLES", 250)
  decoded = []
  monkeypatch.setattr(sounds, "decode_pcm", lambda data: decoded.append(len(data)) or decode_pcm(data))
  waves = [0.1 * np.sin(np.arange(size) / 9).astype(np.float32) for size in (100, 200, 120)]
  kept = Sounds(sounding_turns([_set(tmp_path / "set", waves)], "train"))
  for _ in range(2):
    for which, wave in enumerate(waves):
      np.testing.assert_array_equal(kept.whole(which), from_pcm(to_pcm(wave)))
      np.testing.assert_array_equal(
        kept.slice(which, start=90, size=40), np.pad(kept.whole(which)[90:130], (0, 40))[:40]
      )
  assert kept.length(1) == 200
  assert len(decoded) == 2 + 2 * 3  # the second one has no room


def _set(folder, waves, *, split="train"):
  turns = [Turn("user", f"wave {number}", audio=encode_flac(wave)) for number, wave in enumerate(waves)]
  write_split(folder, split, [Example(str(number), "speech", (turn,)) for number, turn in enumerate(turns)])
  return folder


def test_turns_are_listed_once_and_their_sound_is_read_when_it_is_asked_for(tmp_path, monkeypatch):
  waves = [0.1 * np.sin(np.arange(size) / 9).astype(np.float32) for size in (100, 220)]
  folder = _set(tmp_path / "set", waves)
  first = sounding_turns([folder], "train")
  assert not any(one.turn.audio for one in first) and [one.length.samples for one in first] == [100, 220]
  monkeypatch.setattr(ExampleSource, "__iter__", lambda self: pytest.fail("the list beside the set is read instead"))
  again = sounding_turns([folder], "train")
  assert [one[:2] + one[3:] for one in again] == [one[:2] + one[3:] for one in first]
  for one, wave in zip(again, waves, strict=True):
    np.testing.assert_array_equal(decode_pcm(one.audio()), to_pcm(wave))


@pytest.mark.parametrize("damage", ["cut", "changed", "deep", "no text", "other shards"])
def test_a_list_of_another_set_is_made_again(tmp_path, damage):
  folder = _set(tmp_path / "set", [np.full(100, 0.1, np.float32), np.full(220, 0.1, np.float32)])
  sounding_turns([folder], "train")
  path, expected = folder / "sounds-train.jsonl", [100, 220]
  if damage == "cut":
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
  elif damage == "changed":
    path.write_text(path.read_text().replace("[16000, 220]", "[16000, 221]").replace("[220, 16000]", "[221, 16000]"))
  elif damage == "deep":
    path.write_text("[" * 100_000)
  elif damage == "no text":
    path.write_bytes(b"\xff\xfe" * 9)
  else:
    expected = [100, 221]
    _set(folder, [np.full(size, 0.1, np.float32) for size in expected])
  for _ in range(2):
    found = sounding_turns([folder], "train")
    assert [one.length.samples for one in found] == expected
    assert [len(Sounds(found).whole(which)) for which in range(2)] == expected


def test_sound_of_another_length_than_listed_is_told(tmp_path):
  (one,) = sounding_turns([_set(tmp_path / "set", [np.full(100, 0.1, np.float32)])], "train")
  with pytest.raises(UserError, match="100 samples, 90 were listed"):
    Sounds([one._replace(length=one.length._replace(samples=90))]).whole(0)


def test_a_set_that_others_own_is_read_each_time(tmp_path, monkeypatch):
  folder = _set(tmp_path / "set", [np.full(100, 0.1, np.float32)])

  def refuse(path, content):
    raise UserError("cannot write", where=path, rule="", remedy="")

  monkeypatch.setattr(sounds, "write_whole", refuse)
  assert len(sounding_turns([folder], "train")) == 1 and not (folder / "sounds-train.jsonl").exists()


@pytest.mark.parametrize("cut", ["head", "end"])
def test_damaged_sound_is_told_by_its_record(tmp_path, cut):
  whole = encode_flac(0.3 * np.random.default_rng(0).normal(size=5000).clip(-3, 3))
  turns = [Turn("user", "a", audio=whole), Turn("user", "b", audio=whole[:20] if cut == "head" else whole[:-50])]
  write_split(tmp_path / "set", "train", [Example(turn.text, "speech", (turn,)) for turn in turns])
  with pytest.raises(UserError, match="cannot read audio") as error:
    Sounds(sounding_turns([tmp_path / "set"], "train")).whole(1)
  assert str(error.value.where).endswith("set, split train, record 1, turn 0")
