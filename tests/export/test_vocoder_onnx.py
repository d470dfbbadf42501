"""The exported inverse-STFT vocoder sounds like the model, for every length and style, or is not written."""

import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.export import vocoder_onnx
from omni_jax.export.programs import METADATA
from omni_jax.export.vocoder import export_onnx
from tests.speech.vocoders import SMALL, make_vocoder, random_units


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  stem = tmp_path_factory.mktemp("export") / "folder" / "vocoder"
  return export_onnx(make_vocoder(), stem)


def test_the_file_runs_and_sounds_the_same(exported):
  import onnxruntime

  assert exported.differences["waveform"] <= vocoder_onnx.TOLERANCE
  (path,) = exported.paths
  assert path.name == "vocoder.onnx" and path.stat().st_size == exported.num_bytes
  session = onnxruntime.InferenceSession(path)
  for length, style in ((1, Style("male", "sad", "low")), (23, Style("female", "happy", "high"))):
    units = random_units(length, seed=length)
    theirs = session.run(None, {"units": units.astype(np.int64), "style": np.array(style.indices, np.int64)})[0]
    ours = make_vocoder().decode(units, style)
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs, ours, atol=1e-2 * np.abs(ours).max())


def test_the_file_says_what_it_takes(exported):
  import onnxruntime

  session = onnxruntime.InferenceSession(exported.paths[0])
  properties = session.get_modelmeta().custom_metadata_map
  block = json.loads(properties[METADATA])
  assert properties["sample_rate"] == "16000" and block["codebook_size"] == SMALL.codebook_size
  assert block["styles"][:4] == [
    f"female-{rest}" for rest in ("neutral-low", "neutral-normal", "neutral-high", "happy-low")
  ]


def test_a_file_that_sounds_otherwise_is_not_written(monkeypatch, tmp_path):
  path = tmp_path / "vocoder.onnx"
  path.write_bytes(b"earlier")
  right = vocoder_onnx._overlap_add
  monkeypatch.setattr(vocoder_onnx, "_overlap_add", lambda graph, x: graph("Mul", right(graph, x), 1.5))
  with pytest.raises(UserError, match=r"waveform differs by 5\.0\de-01"):
    export_onnx(make_vocoder(), tmp_path / "vocoder")
  assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]
