"""Unit HiFi-GAN in onnxruntime: equal to JAX through the runtime of `runtime/`, whole and in pieces, or not written."""

import dataclasses
import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.export import onnx_layers
from omni_jax.export.programs import METADATA, TOLERANCE
from omni_jax.export.vocoder import export_onnx
from tests.runtime.speakers import load_runtime
from tests.speech.drawn import drawn_model
from tests.speech.test_unit_hifigan import ONE_VOICE, SPEAKERS, reduced, vocoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  stem = tmp_path_factory.mktemp("export") / "folder" / "voice"
  return stem, export_onnx(vocoder(SPEAKERS), stem, licence="MIT")


def test_it_sounds_the_same_whole_and_in_pieces(exported):
  stem, report = exported
  assert [path.name for path in report.paths] == ["voice.units.onnx", "voice.sound.onnx"]
  assert sorted(path.name for path in stem.parent.iterdir()) == sorted(path.name for path in report.paths)
  assert set(report.differences) == {"frames", "waveform"} and max(report.differences.values()) <= TOLERANCE
  model, units, voice = vocoder(SPEAKERS), reduced(23), load_runtime().Voice(str(stem))
  ours = model.decode(units, speaker=2)
  theirs = np.concatenate(list(voice.pieces(units, "speaker-2")))
  assert theirs.shape == ours.shape and np.abs(ours).max() > 0.1
  np.testing.assert_allclose(theirs, ours, atol=1e-5)
  assert np.abs(theirs - np.concatenate(list(voice.pieces(units, "speaker-0")))).max() > 1e-3
  for frames in (3, 16, 40):
    pieces = list(voice.pieces(units, "speaker-2", frames=frames))
    assert all(len(piece) == frames * model.hop for piece in pieces[:-1])
    np.testing.assert_allclose(np.concatenate(pieces), ours, atol=1e-5)


def test_the_files_say_what_they_are(exported):
  import onnx

  report, blocks = exported[1], []
  for path in report.paths:
    model = onnx.load(path)
    assert model.opset_import[0].version == 17
    properties = {entry.key: entry.value for entry in model.metadata_props}
    blocks.append(json.loads(properties[METADATA]))
    assert properties["sample_rate"] == "1000"
  assert blocks[0] == blocks[1]
  block = blocks[0]
  assert block["licence"] == "MIT" and block["hop"] == 10 and block["codebook_size"] == 30
  assert block["context"] == SPEAKERS.generator.context and block["styles"] == ["speaker-0", "speaker-1", "speaker-2"]
  assert block["parity"]["relative difference from JAX"] == pytest.approx(report.differences)
  assert set(block["written by"]) >= {"jax", "onnxruntime"}


def test_without_a_predictor_every_unit_lasts_a_frame(tmp_path):
  model = drawn_model(dataclasses.replace(ONE_VOICE, duration=None))
  report = export_onnx(model, tmp_path / "voice")
  assert [path.name for path in report.paths] == ["voice.sound.onnx"]
  units = reduced(9)
  voice = load_runtime().Voice(str(tmp_path / "voice"))
  np.testing.assert_allclose(np.concatenate(list(voice.pieces(units))), model.decode(units), atol=1e-5)


def test_a_graph_that_sounds_otherwise_leaves_nothing(monkeypatch, tmp_path):
  earlier = tmp_path / "voice.sound.onnx"
  earlier.write_bytes(b"earlier")
  monkeypatch.setattr(onnx_layers, "SLOPE", 0.2)
  with pytest.raises(UserError, match=r"waveform differs by \d\.\d\de-0[123] \(relative\)"):
    export_onnx(vocoder(ONE_VOICE), tmp_path / "voice")
  assert earlier.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [earlier]


def test_only_vocoders_are_exported(tmp_path):
  with pytest.raises(UserError, match="a dict"):
    export_onnx({}, tmp_path / "voice")
