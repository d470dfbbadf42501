import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.convert.hubert import HubertNames, export_hubert_tensors
from omni_jax.convert.kmeans_stage import import_kmeans_stage
from omni_jax.convert.shards import write_folder
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.kmeans import write_centres
from tests.models.drawn import drawn
from tests.speech.test_kmeans_tokenizer import CONFIG


@pytest.fixture
def files(tmp_path):
  """Returns a tokenizer and its files: a folder of safetensors and centres."""
  tokenizer = drawn(CONFIG, deviation=0.5)
  hubert = {path: np.asarray(leaf) for path, leaf in trees.flatten(tokenizer.hubert).items()}
  tensors = export_hubert_tensors(CONFIG.hubert, hubert, HubertNames.TRANSFORMERS)
  write_folder(tmp_path / "weights", iter(tensors.items()))
  write_centres(tmp_path / "centres.npy", np.asarray(tokenizer.centres[...]))
  return tokenizer, {"weights": tmp_path / "weights", "centres": tmp_path / "centres.npy"}


def test_an_imported_tokenizer_gives_the_same_units(files, tmp_path):
  tokenizer, given = files
  stage = import_kmeans_stage(CONFIG, tmp_path, name="units", names=HubertNames.TRANSFORMERS, **given)
  config, found = load_model(stage)
  assert config == CONFIG
  waveform = np.random.default_rng(0).normal(size=4000)
  np.testing.assert_array_equal(found.encode(waveform), tokenizer.encode(waveform))
  with pytest.raises(UserError, match="'units' exists"):
    import_kmeans_stage(CONFIG, tmp_path, name="units", names=HubertNames.TRANSFORMERS, **given)


def test_nothing_is_written_where_a_file_does_not_do(files, tmp_path):
  _, given = files
  with pytest.raises(UserError, match="weight_g"):
    import_kmeans_stage(CONFIG, tmp_path, name="other", names=HubertNames.FAIRSEQ, **given)
  with pytest.raises(UserError, match="no such file"):
    missing = {**given, "centres": tmp_path / "missing.npy"}
    import_kmeans_stage(CONFIG, tmp_path, name="other", names=HubertNames.TRANSFORMERS, **missing)
  assert not (tmp_path / "stages" / "other").exists()
