"""One graph with Piper's inputs: equal to JAX without noise, and its config says what a runtime of Piper asks for."""

import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.export.piper_onnx import FIRST_CHARACTER, config_of
from omni_jax.export.programs import TOLERANCE
from omni_jax.export.vocoder import export_piper
from omni_jax.speech.conditions import CONDITIONS
from tests.runtime.speakers import VOICE
from tests.speech.small_vits import UNITS
from tests.speech.test_unit_hifigan import ONE_VOICE, SPEAKERS, reduced, vocoder
from tests.speech.vocoders import make_vocoder


def session(path):
  import onnxruntime

  return onnxruntime.InferenceSession(path)


def ids_as_piper(config, characters):
  """What `PiperVoice.phonemes_to_ids` does: the beginning, every phoneme and a pad behind it, the end."""
  ids = list(config["phoneme_id_map"]["^"])
  for character in characters:
    ids += config["phoneme_id_map"][character] + config["phoneme_id_map"]["_"]
  return ids + config["phoneme_id_map"]["$"]


def test_a_voice_in_one_graph(tmp_path):
  report = export_piper(VOICE, tmp_path / "voice")
  assert [path.name for path in report.paths] == ["voice.piper.onnx", "voice.piper.onnx.json"]
  assert report.differences["output"] <= TOLERANCE
  config = json.loads(report.paths[1].read_text())
  assert config["num_speakers"] == 126 and config["speaker_id_map"][CONDITIONS[77]] == 77
  assert config["audio"]["sample_rate"] == 22_050 and config["inference"]["noise_w"] == 0.0
  units = np.random.default_rng(0).integers(0, UNITS, 11).astype(np.int32)
  assert ids_as_piper(config, [chr(FIRST_CHARACTER + unit) for unit in units]) == units.tolist()
  run = session(report.paths[0])
  inputs = {"input": units[None].astype(np.int64), "input_lengths": np.array([11]), "sid": np.array([77])}
  ours = VOICE.speak(units, CONDITIONS[77])
  (theirs,) = run.run(None, inputs | {"scales": np.array([0.0, 16.0, 0.0], np.float32)})
  assert theirs.shape == (1, 1, 1, len(ours))
  np.testing.assert_allclose(theirs[0, 0, 0], ours, atol=1e-5)
  first, second = (run.run(None, inputs | {"scales": np.array([0.7, 16.0, 0.0], np.float32)})[0] for _ in range(2))
  assert first.shape == second.shape and np.abs(first - second).max() > 1e-3
  lengths = {run.run(None, inputs | {"scales": np.array([0, 16, 0.8], np.float32)})[0].shape[-1] for _ in range(4)}
  assert len(lengths) > 1


@pytest.mark.parametrize("config", [pytest.param(ONE_VOICE, marks=pytest.mark.slow), SPEAKERS], ids=["one", "speakers"])
def test_unit_hifigan_in_one_graph(config, tmp_path):
  model, units = vocoder(config), reduced(13)
  report = export_piper(model, tmp_path / "voice")
  speaker = {"sid": np.array([2])} if config.speakers else {}
  inputs = {"input": units[None].astype(np.int64), "input_lengths": np.array([13]), **speaker}
  (samples,) = session(report.paths[0]).run(None, inputs | {"scales": np.array([0.667, 1.0, 0.8], np.float32)})
  ours = model.decode(units, speaker=2 if config.speakers else 0)
  np.testing.assert_allclose(samples[0, 0, 0], ours, atol=1e-5)


def test_what_piper_cannot_be_given(tmp_path):
  with pytest.raises(UserError, match="a Vocoder"):
    export_piper(make_vocoder(), tmp_path / "voice")
  with pytest.raises(UserError, match="6401 units"):
    config_of({"codebook_size": 6401, "delivery": {}})
  assert not list(tmp_path.iterdir())
