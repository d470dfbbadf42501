"""The exported inverse-STFT vocoder sounds like the model, for every length and style, or is not written."""

import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.export import vocoder_onnx
from omni_jax.export.programs import METADATA, TOLERANCE
from omni_jax.export.vocoder import export_onnx
from tests.runtime.speakers import load_runtime
from tests.speech.vocoders import SMALL, make_vocoder, random_units


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  stem = tmp_path_factory.mktemp("export") / "folder" / "vocoder"
  return export_onnx(make_vocoder(), stem)


@pytest.fixture(scope="module")
def voice(exported):
  assert [path.name for path in exported.paths] == ["vocoder.units.onnx", "vocoder.sound.onnx"]
  assert sum(path.stat().st_size for path in exported.paths) == exported.num_bytes
  return load_runtime().Voice(str(exported.paths[0]).removesuffix(".units.onnx"))


def test_the_files_run_and_sound_the_same(exported, voice):
  assert exported.differences["waveform"] <= vocoder_onnx.TOLERANCE
  assert max(exported.differences[name] for name in ("f0", "phase", "harmonic", "noise")) <= TOLERANCE
  for length, style in ((1, Style("male", "sad", "low")), (23, Style("female", "happy", "high"))):
    units = random_units(length, seed=length)
    (theirs,) = voice.pieces(units, str(style))
    ours = make_vocoder().decode(units, style)
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs, ours, atol=1e-2 * np.abs(ours).max())


@pytest.mark.parametrize("frames", [1, 5, 25])
def test_pieces_equal_the_whole(voice, frames):
  units = random_units(12, seed=3)
  (whole,) = voice.pieces(units, "male-sad-low")
  pieces = list(voice.pieces(units, "male-sad-low", frames=frames))
  hop = voice.facts["hop"]
  assert len(pieces) == -(-len(whole) // (frames * hop)) > 1
  assert {len(piece) for piece in pieces[:-1]} == {frames * hop}
  np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=1e-5)


def test_pieces_without_frames_are_refused(voice):
  for frames in (0, -3):
    with pytest.raises(ValueError, match=f"pieces of {frames} frames"):
      voice.pieces(random_units(3), "male-sad-low", frames=frames)


def test_the_files_say_what_they_take(exported):
  import onnxruntime

  session = onnxruntime.InferenceSession(exported.paths[0])
  properties = session.get_modelmeta().custom_metadata_map
  block = json.loads(properties[METADATA])
  assert properties["sample_rate"] == "16000" and block["codebook_size"] == SMALL.codebook_size
  assert block["styles"][:4] == [
    f"female-{rest}" for rest in ("neutral-low", "neutral-normal", "neutral-high", "happy-low")
  ]


def test_a_file_that_sounds_otherwise_is_not_written(monkeypatch, tmp_path):
  path = tmp_path / "vocoder.sound.onnx"
  path.write_bytes(b"earlier")
  right = vocoder_onnx._overlap_add
  monkeypatch.setattr(vocoder_onnx, "_overlap_add", lambda graph, x: graph("Mul", right(graph, x), 1.5))
  with pytest.raises(UserError, match=r"waveform differs by 5\.0\de-01"):
    export_onnx(make_vocoder(), tmp_path / "vocoder")
  assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]
