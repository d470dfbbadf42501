"""Whole utterances for a voice that finds durations by itself."""

import dataclasses

import numpy as np
import pytest

from omni_jax.batches.unit_utterances import UnitUtterances
from omni_jax.batches.utterances import Bucket
from omni_jax.core.errors import UserError
from tests.batches.spoken_sets import HZ, RAW, sound, write_sets

HOP = 256


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  return UnitUtterances(
    **write_sets(tmp_path_factory.mktemp("sets")), voices=(), sample_rate=16000, hop_samples=HOP, max_units=16,
    least_frames=8, buckets=(Bucket(seconds=0.7, rows=2),), seed=0,
  )  # fmt: skip


def test_rows_are_whole_utterances(config):
  batch = next(iter(config.open()))
  reduced = [50, 7, *range(20, 30)]
  assert batch["units"].tolist() == [reduced + [0] * 4] * 2 and batch["num_units"].tolist() == [12, 12]
  frames = len(RAW) * 640 // HOP
  assert batch["num_frames"].tolist() == [frames] * 2 and batch["waveform"].shape == (2, 44 * HOP)
  assert batch["style"].tolist() == [[1, 2, 0]] * 2
  originals = [sound(hz)[: frames * HOP] for hz in HZ.values()]
  for row in batch["waveform"]:
    assert min(np.abs(row[: frames * HOP] - original).max() for original in originals) < 1e-4
    assert not row[frames * HOP :].any()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"max_units": 11}, "12 reduced units and 37 frames"),
    ({"least_frames": 38}, "at least 38 frames"),
    ({"buckets": (Bucket(seconds=0.5, rows=2),)}, "longest bucket holds 0.5"),
    ({"voices": ("nobody",)}, "no utterance to train on"),
  ],
)
def test_what_does_not_fit_is_told(config, changes, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(config, **changes).open()
