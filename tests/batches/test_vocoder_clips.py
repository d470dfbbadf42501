"""Clips for the vocoder: units, F0 and sound of a row belong together; batches depend on seed and number alone."""

import dataclasses

import numpy as np
import pytest

from omni_jax.batches.spoken import FRAMES_PER_UNIT, spoken
from omni_jax.batches.vocoder_clips import HOP_SAMPLES, VocoderClips, bridge
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import SAMPLE_RATE, encode_flac
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split

HZ = {"a": 125.0, "b": 200.0, "other": 100.0}


def _tone(hz: float, units: int) -> np.ndarray:
  time = np.arange(units * FRAMES_PER_UNIT * HOP_SAMPLES) / SAMPLE_RATE
  return (0.3 * np.sign(np.sin(2 * np.pi * hz * time))).astype(np.float32)


def _write(folder, *, ids=("0", "1", "2"), with_audio=True, unit_frames=()):
  examples = []
  for identity, (voice, hz) in zip(ids, HZ.items(), strict=True):
    units = [int(hz)] * 5 + [7, 7] + list(range(20, 33))
    audio = encode_flac(_tone(hz, len(units))) if with_audio else b""
    timed = {"unit_frames": unit_frames, "units": [] if with_audio else units}
    turn = Turn("user", "x", audio=audio, style="male-sad-low", voice=voice, **timed)
    examples.append(Example(identity, "speech", (turn,)))
  write_split(folder, "train", examples)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp("sets")
  _write(folder / "corpus" / "speech")
  _write(folder / "units" / "speech", with_audio=False)
  return VocoderClips(
    corpus=(folder / "corpus" / "speech",), units=(folder / "units" / "speech",), split="train", voices=("a", "b"),
    rows=2, clip_frames=24, margin_frames=4, units_behind=3, units_ahead=2, seed=0,
  )  # fmt: skip


def test_a_row_holds_what_belongs_together(config):
  batches = iter(config.open())
  for _ in range(6):
    batch = next(batches)
    assert batch["waveform"].shape == (2, 24 * HOP_SAMPLES) and batch["f0_hz"].shape == (2, 32)
    for row in range(2):
      counts, first = batch["counts"][row], int(batch["first"][row])
      hz = np.median(batch["f0_hz"][row])
      assert hz in (pytest.approx(HZ["a"], rel=0.02), pytest.approx(HZ["b"], rel=0.02)), "only the voices asked for"
      assert batch["units"][row, 0] in (round(hz / 25) * 25, *range(7, 33))
      assert (counts % FRAMES_PER_UNIT == 0).all() and first >= -4
      assert first + 4 + 24 <= counts.sum(), "the clip lies inside the units given"
      assert (np.diff(batch["units"][row][counts > 0]) != 0).all(), "units are reduced"
    assert batch["style"].tolist() == [[1, 2, 0]] * 2


def test_durations_found_in_encoding_count(config, tmp_path):
  frames = np.array([21, 6] + [5] + [4] * 12)
  _write(tmp_path / "speech", with_audio=False, unit_frames=frames)
  timed = dataclasses.replace(config, units=(tmp_path / "speech",), clip_frames=8)
  batches, places = iter(timed.open()), np.cumsum(frames) - frames
  for _ in range(12):
    batch = next(batches)
    for units, counts, first in zip(batch["units"], batch["counts"], batch["first"].tolist(), strict=True):
      units, counts = units[counts > 0], counts[counts > 0]
      before = 0 if units[0] > 33 else 1 if units[0] == 7 else units[0] - 18
      assert counts.tolist() == frames[before : before + len(counts)].tolist(), "those of the units given"
      start, end = places[before] + first, places[before] + first + 16
      heard = np.searchsorted(np.cumsum(frames), [max(start, 0), min(end, frames.sum()) - 1], side="right")
      assert before == max(0, heard[0] - 3) and before + len(units) == min(15, heard[1] + 3), "the context asked for"


def test_without_them_a_repetition_is_forty_milliseconds():
  said = spoken(Turn("user", "x", units=[5, 5, 9, 5]))
  assert said.units.tolist() == [5, 9, 5] and said.counts.tolist() == [8, 4, 4]


@pytest.mark.parametrize("frames", [[8, 8], [9, 4, 4]])
def test_durations_that_do_not_fit_the_units_are_refused(frames):
  with pytest.raises(UserError, match="3 reduced units of 4 raw ones"):
    spoken(Turn("user", "x", units=[5, 5, 9, 5], unit_frames=frames))


def test_batches_are_a_function_of_seed_and_number(config):
  def read(seed, skip=0):
    batches = iter(dataclasses.replace(config, seed=seed).open())
    return [next(batches)["first"].tolist() for _ in range(8)][skip:]

  assert read(0) == read(0) and read(0) != read(1)
  batches = iter(config.open())
  for _ in range(3):
    next(batches)
  state = batches.get_state()
  expected = next(batches)
  resumed = iter(config.open())
  resumed.set_state(state)
  for name, value in next(resumed).items():
    np.testing.assert_array_equal(value, expected[name])


def test_a_short_utterance_is_followed_by_silence(config):
  batch = next(iter(dataclasses.replace(config, clip_frames=160).open()))
  assert not batch["waveform"][:, 80 * HOP_SAMPLES :].any()
  assert not batch["voiced"][:, 84:].any() and (batch["counts"] > 0).sum(1).min() == 15


def test_f0_is_bridged_over_unvoiced_frames_in_octaves():
  f0 = np.array([0, 100, 0, 400, 0], np.float32)
  assert bridge(f0, f0 > 0).tolist() == pytest.approx([100, 100, 200, 400, 400])
  assert (bridge(np.zeros(3, np.float32), np.zeros(3, bool)) > 0).all()


def test_units_of_another_corpus_are_refused(config, tmp_path):
  _write(tmp_path / "speech", ids=("0", "5", "2"), with_audio=False)
  with pytest.raises(UserError, match="'1' in the corpus and '5' in the units"):
    dataclasses.replace(config, units=(tmp_path / "speech",)).open()


def test_units_of_other_turns_are_refused(config, tmp_path):
  pair = (Turn("user", "x", units=[1]), Turn("assistant", "y", units=[2]))
  write_split(tmp_path / "speech", config.split, [Example("0", "speech", pair[:1]), Example("1", "dialogue", pair)])
  with pytest.raises(UserError, match="of 1 and 2 turns"):
    dataclasses.replace(config, units=(tmp_path / "speech",)).open()


def test_a_voice_that_nobody_has_is_refused(config):
  with pytest.raises(UserError, match="no utterance"):
    dataclasses.replace(config, voices=("nobody",)).open()
