"""One file for JAX on any device: read again it gives what the model gives, at any batch and length."""

import json
import zipfile

import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.export import stablehlo, unit_hifigan_onnx
from omni_jax.export.programs import TOLERANCE
from omni_jax.export.unit_to_speech_onnx import sound_function
from omni_jax.export.vocoder import export_stablehlo
from tests.speech.small_vits import LATENT, draw, small_model
from tests.speech.test_unit_hifigan import SPEAKERS, vocoder
from tests.speech.vocoders import make_vocoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  stem = tmp_path_factory.mktemp("export") / "voice"
  return export_stablehlo(small_model(), stem, licence="MIT")


def test_a_voice_at_any_batch_and_length(exported):
  assert exported.paths[0].name == "voice.stablehlo"
  assert set(exported.differences) == {"mean", "log_deviation", "frames", "waveform"}
  assert max(exported.differences.values()) <= TOLERANCE
  found = stablehlo.read_stablehlo(exported.paths[0])
  assert found.card["licence"] == "MIT" and found.card["platforms"] == ["cpu", "cuda", "tpu"]
  model = small_model()
  inputs = {"latents": np.asarray(draw((3, 17, LATENT))), "valid": np.ones((3, 17), np.float32)}
  inputs["condition"] = np.asarray(draw((3, model.config.condition)))
  ours = jax.jit(sound_function)(model, inputs)["waveform"]
  np.testing.assert_allclose(found.programs["sound"](inputs)["waveform"], ours, atol=1e-6)


def test_the_archive_is_as_described(exported):
  """Weights once, programs small, every platform in each; read with nothing of ours."""
  with zipfile.ZipFile(exported.paths[0]) as archive:
    assert sorted(archive.namelist()) == ["card.json", "sound", "units", "weights.npz"]
    assert json.loads(archive.read("card.json"))["sample_rate"] == 22_050
    for name in ("units", "sound"):
      assert jax.export.deserialize(bytearray(archive.read(name))).platforms == ("cpu", "cuda", "tpu")


@pytest.mark.slow
def test_unit_hifigan(tmp_path):
  report = export_stablehlo(vocoder(SPEAKERS), tmp_path / "voice")
  assert max(report.differences.values()) <= TOLERANCE


def test_a_program_that_differs_leaves_nothing(monkeypatch, tmp_path):
  monkeypatch.setattr(stablehlo, "distances", lambda *_: {"waveform": 0.5})
  model = vocoder(SPEAKERS)
  first = unit_hifigan_onnx.programs_of(model)[:1]
  with pytest.raises(UserError, match=r"waveform differs by 5\.00e-01"):
    stablehlo.publish_stablehlo(model, first, tmp_path / "voice", facts={})
  assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_or_read_is_told(exported, tmp_path):
  with pytest.raises(UserError, match="durations decide them"):
    export_stablehlo(make_vocoder(), tmp_path / "voice")
  whole = exported.paths[0].read_bytes()
  for size in (0, 100, len(whole) // 2, len(whole) - 1):
    (tmp_path / "half").write_bytes(whole[:size])
    with pytest.raises(UserError, match="cannot read the vocoder"):
      stablehlo.read_stablehlo(tmp_path / "half")
  with pytest.raises(UserError, match="cannot read the vocoder"):
    stablehlo.read_stablehlo(tmp_path / "nothing")
