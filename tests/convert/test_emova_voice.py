import json

import numpy as np
import pytest

from omni_jax.convert.emova_voice import export_emova_voice, import_emova_voice
from omni_jax.convert.shards import write_folder
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.conditions import CONDITIONS, Centroids
from omni_jax.speech.unit_voice import UnitVoice
from tests.speech.small_vits import CONDITION, draw, small_model

STYLES = Centroids(CONDITIONS[::-1][:4], np.asarray(draw((4, CONDITION))))


def written(folder, *, index=None, extra=()):
  model = small_model(voice=True, normed_decoder=True)
  fields, tensors = export_emova_voice(UnitVoice(model, centroids=STYLES))
  fields["u2s_style2idx"] = fields["u2s_style2idx"] if index is None else index
  write_folder(folder, [*tensors, *extra])
  (folder / "config.json").write_text(json.dumps(fields))
  return model


def test_a_folder_of_both_halves_gives_the_voice_bit_for_bit(tmp_path):
  pytest.importorskip("safetensors")
  model = written(tmp_path, extra=[("encoder.pre_quant.bias", np.zeros(4, np.float32))])
  found = import_emova_voice(tmp_path, config=model.config)
  leaves = trees.flatten(model)
  for path, leaf in trees.flatten(found.model).items():
    assert np.asarray(leaf).tobytes() == np.asarray(leaves[path]).tobytes(), path
  assert found.centroids is not None
  for name in STYLES.names:
    np.testing.assert_array_equal(found.centroids.vector(name), STYLES.vector(name))


def test_what_is_no_voice_is_told(tmp_path):
  pytest.importorskip("safetensors")
  model = written(tmp_path / "index", index={"loud": 4})
  with pytest.raises(UserError, match="row 4 of 4"):
    import_emova_voice(tmp_path / "index", config=model.config)
  written(tmp_path / "none", index="none")
  with pytest.raises(UserError, match="no u2s_style2idx"):
    import_emova_voice(tmp_path / "none", config=model.config)
  written(tmp_path / "stray", extra=[("decoder.stray", np.zeros(1, np.float32))])
  with pytest.raises(UserError, match=r"- decoder\.stray"):
    import_emova_voice(tmp_path / "stray", config=model.config)
  with pytest.raises(UserError, match="without styles"):
    export_emova_voice(UnitVoice(model))
