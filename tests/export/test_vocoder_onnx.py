"""The exported vocoder sounds like the model, for every length and style, or is not written."""

import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.export import vocoder_onnx
from tests.speech.vocoders import SMALL, make_vocoder, random_units


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  path = tmp_path_factory.mktemp("export") / "folder" / "vocoder.onnx"
  return vocoder_onnx.export_vocoder(make_vocoder(), path)


def test_the_file_runs_and_sounds_the_same(exported):
  import onnxruntime

  assert exported.difference <= vocoder_onnx.TOLERANCE
  assert exported.path.stat().st_size == exported.num_bytes
  session = onnxruntime.InferenceSession(exported.path)
  for length, style in ((1, Style("male", "sad", "low")), (23, Style("female", "happy", "high"))):
    units = random_units(length, seed=length)
    theirs = session.run(None, {"units": units.astype(np.int64), "style": np.array(style.indices, np.int64)})[0]
    ours = make_vocoder().decode(units, style)
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs, ours, atol=1e-2 * np.abs(ours).max())


def test_the_file_says_what_it_takes(exported):
  import onnxruntime

  session = onnxruntime.InferenceSession(exported.path)
  properties = session.get_modelmeta().custom_metadata_map
  assert properties["sample_rate"] == "16000" and properties["codebook_size"] == str(SMALL.codebook_size)
  assert json.loads(properties["style"])["emotion"] == ["neutral", "happy", "sad", "angry"]


def test_a_file_that_sounds_otherwise_is_not_written(monkeypatch, tmp_path):
  path = tmp_path / "vocoder.onnx"
  path.write_bytes(b"earlier")
  monkeypatch.setattr(vocoder_onnx, "compare", lambda model, data: 0.5)
  with pytest.raises(UserError, match=r"relative difference 5\.00e-01"):
    vocoder_onnx.export_vocoder(make_vocoder(), path)
  assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]
