"""The unit-to-speech model in onnxruntime: equal to JAX through the runtime of `runtime/`, whole and in pieces."""

import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.export.programs import TOLERANCE
from omni_jax.export.vocoder import export_onnx
from omni_jax.speech.conditions import CONDITIONS
from omni_jax.speech.unit_voice import UnitVoice
from tests.runtime.speakers import QUIET, VOICE, exported_voice, load_runtime
from tests.speech.drawn import drawn_model
from tests.speech.small_vits import SPEAKERS, UNITS, small_model

units = np.random.default_rng(0).integers(0, UNITS, 11).astype(np.int32)


@pytest.fixture
def exported():
  return exported_voice()


def test_it_sounds_the_same_whole_and_in_pieces(exported):
  stem, report = exported
  assert set(report.differences) == {"mean", "log_deviation", "frames", "waveform"}
  assert max(report.differences.values()) <= TOLERANCE
  speaker, voice = VOICE, load_runtime().Voice(str(stem))
  for condition in (CONDITIONS[0], CONDITIONS[77]):
    ours = np.concatenate(list(speaker.pieces(units, condition, piece_frames=16)))
    theirs = np.concatenate(list(voice.pieces(units, condition)))
    assert theirs.shape == ours.shape and np.abs(ours).max() > 0.03
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_noise_stays_in_its_place_when_pieces_change(exported):
  voice = load_runtime().Voice(str(exported[0]))
  loud = {"seed": 3, "noise": 0.667, "duration_noise": 0.8}
  whole = np.concatenate(list(voice.pieces(units, CONDITIONS[5], **loud)))
  assert len(whole) > 2 * small_model().config.context * 8, "there are pieces whose context lies inside"
  for frames in (3, 16, 40):
    pieces = list(voice.pieces(units, CONDITIONS[5], frames=frames, **loud))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
  other = np.concatenate(list(voice.pieces(units, CONDITIONS[5], **(loud | {"seed": 4}))))
  assert other.shape != whole.shape or np.abs(other - whole).max() > 1e-3


def test_durations_of_zero_are_one_frame_of_nobody(exported):
  voice = load_runtime().Voice(str(exported[0]))
  samples = np.concatenate(list(voice.pieces(units, CONDITIONS[0], length=0.0, noise=0.667)))
  assert samples.shape == (8,) and np.isfinite(samples).all()


def test_speakers_are_the_styles_of_a_model_without_centroids(tmp_path):
  model = small_model()
  export_onnx(UnitVoice(model, delivery=QUIET), tmp_path / "voice")
  voice = load_runtime().Voice(str(tmp_path / "voice"))
  assert voice.facts["styles"] == [f"speaker-{number}" for number in range(SPEAKERS)]
  ours = UnitVoice(model, delivery=QUIET).speak(units, np.asarray(model.speakers[...])[1])
  np.testing.assert_allclose(np.concatenate(list(voice.pieces(units, "speaker-1"))), ours, atol=1e-5)


@pytest.mark.slow
def test_a_model_without_conditions_has_no_styles(tmp_path):
  model = small_model(condition=0)
  export_onnx(UnitVoice(model, delivery=QUIET), tmp_path / "voice")
  voice = load_runtime().Voice(str(tmp_path / "voice"))
  ours = UnitVoice(model, delivery=QUIET).speak(units)
  np.testing.assert_allclose(np.concatenate(list(voice.pieces(units))), ours, atol=1e-5)


def test_a_voice_without_styles_is_told(tmp_path):
  config = dataclasses.replace(small_model().config, num_speakers=0)
  with pytest.raises(UserError, match="no styles"):
    export_onnx(drawn_model(config), tmp_path / "voice")
  assert not list(tmp_path.iterdir())
