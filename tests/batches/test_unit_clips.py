"""Clips for vocoders with critics: frames, units and sound of a row belong together."""

import dataclasses

import numpy as np
import pytest

from omni_jax.batches.unit_clips import SoundClips, UnitClips
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from tests.batches.spoken_sets import HZ, RAW, STYLE, sound, write_sets

HOP = 320


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def config(sets):
  return UnitClips(
    **sets, voices=("a", "b"), rows=2, sample_rate=16000, hop_samples=HOP, frames_per_unit=2, clip_frames=8,
    units_around=1, speakers="voices", seed=0,
  )  # fmt: skip


def test_a_row_holds_what_belongs_together(config):
  frames, whole = np.repeat(RAW, 2), {"a": sound(HZ["a"]), "b": sound(HZ["b"])}
  batches = iter(config.open())
  starts = set()
  for _ in range(8):
    batch = next(batches)
    assert batch["units"].shape == (2, 8) and batch["waveform"].shape == (2, 8 * HOP)
    for row in range(2):
      wave, units = batch["waveform"][row], batch["units"][row]
      original = whole["ab"[batch["speaker"][row]]]
      start = next(s for s in range(23) if np.abs(original[s * HOP : (s + 8) * HOP] - wave).max() < 1e-4)
      starts.add(start)
      np.testing.assert_array_equal(units, frames[start : start + 8])
      counted, counts, reduced = (batch[name][row] for name in ("counted", "counts", "reduced"))
      sounding = reduced[counted > 0].tolist()
      assert sounding == list(dict.fromkeys(units.tolist()))
      known = {50: 6, 7: 4}
      assert counts[counted > 0].tolist() == [known.get(unit, 2) for unit in sounding], "whole runs, not what is cut"
      around = reduced[(counts > 0) & (counted == 0)]
      assert len(around) == (sounding[0] != 50) + (sounding[-1] != 29)
  assert len(starts) > 5


def test_batches_are_a_function_of_seed_and_number(config):
  batches = iter(config.open())
  for _ in range(3):
    next(batches)
  state, resumed = batches.get_state(), iter(config.open())
  resumed.set_state(state)
  ours, theirs = next(batches), next(resumed)
  for name, value in ours.items():
    np.testing.assert_array_equal(theirs[name], value)
  other = next(iter(dataclasses.replace(config, seed=3).open()))
  assert not np.array_equal(other["waveform"], next(iter(config.open()))["waveform"])


def test_speakers_may_be_styles_or_none(config):
  styled = next(iter(dataclasses.replace(config, speakers="styles").open()))
  assert styled["speaker"].tolist() == [ALL_STYLES.index(Style.parse(STYLE))] * 2
  assert "speaker" not in next(iter(dataclasses.replace(config, speakers="").open()))
  with pytest.raises(UserError, match="speakers 'names'"):
    dataclasses.replace(config, speakers="names")


def test_a_turn_without_a_style_has_no_styled_speaker(config, tmp_path):
  unlabelled = dataclasses.replace(config, **write_sets(tmp_path, style=""), speakers="styles")
  with pytest.raises(UserError, match="has no style"):
    unlabelled.open()


def test_recordings_come_at_the_rate_and_level_asked_for(config):
  loud = next(iter(dataclasses.replace(config, peak=0.95, clip_frames=40).open()))
  np.testing.assert_allclose(np.abs(loud["waveform"]).max(1), 0.95, atol=0.01)
  faster = dataclasses.replace(config, sample_rate=24000, hop_samples=480, clip_frames=40)
  batch = next(iter(faster.open()))
  assert batch["waveform"].shape == (2, 40 * 480)
  slow = sound(HZ["ab"[batch["speaker"][0]]])
  assert np.flatnonzero(batch["waveform"][0])[-1] == pytest.approx(1.5 * len(slow), rel=0.01)
  assert (batch["units"][0, 30:] == RAW[-1]).all() and not batch["waveform"][0, 30 * 480 :].any()


def test_units_last_as_long_as_was_found_in_encoding(config, tmp_path):
  found = (14, 6, *([3, 5] * 5))  # of 10 ms; units are 50, 7, 20 .. 29
  sets = write_sets(tmp_path, unit_frames=found)
  timed = dataclasses.replace(config, **sets, frames_per_unit=None, hop_samples=160, clip_frames=60)
  batch = next(iter(timed.open()))
  np.testing.assert_array_equal(batch["units"][0], np.repeat([50, 7, *range(20, 30)], found))
  assert batch["counts"][0][batch["counted"][0] > 0].tolist() == list(found)
  np.testing.assert_allclose(batch["waveform"][0], sound(HZ["ab"[batch["speaker"][0]]]), atol=1e-4)
  with pytest.raises(UserError, match="frames of 320 samples at 16000 Hz"):
    dataclasses.replace(timed, hop_samples=320)


def test_sound_alone(sets):
  config = SoundClips(corpus=sets["corpus"], split="train", rows=3, sample_rate=16000, clip_samples=4096)
  batch = next(iter(config.open()))
  assert batch["waveform"].shape == (3, 4096) and set(batch) == {"waveform"}
  assert len({row.tobytes() for row in batch["waveform"]}) == 3
  with pytest.raises(UserError, match="no sound"):
    dataclasses.replace(config, voices=("nobody",)).open()
