import json

import numpy as np
import pytest

from omni_jax.convert import snac, unit_hifigan
from omni_jax.convert.vocoder_files import read_snac, read_unit_hifigan, write_snac, write_unit_hifigan
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from tests.convert.test_snac import RELEASED
from tests.convert.test_unit_hifigan import SMALL
from tests.speech.drawn import drawn_model

torch = pytest.importorskip("torch")

CODEC = RELEASED | {"encoder_dim": 2, "decoder_dim": 16, "codebook_size": 8}


def same(one, other):
  one, other = trees.flatten(one), trees.flatten(other)
  return set(one) == set(other) and all(np.array_equal(one[path], other[path]) for path in one)


def test_a_unit_vocoder_is_read_as_written(tmp_path):
  model = drawn_model(unit_hifigan.read_config(SMALL))
  write_unit_hifigan(model, tmp_path, name="g_00000007")
  assert json.loads((tmp_path / "config.json").read_text()) == SMALL
  stored = torch.load(tmp_path / "g_00000007", weights_only=True)
  assert list(stored) == ["generator"] and stored["generator"]["spkr.weight"].shape == (4, 8)
  found = read_unit_hifigan(tmp_path / "g_00000007")
  assert found.config == model.config and same(found, model)


def test_a_codec_is_read_as_written(tmp_path):
  model = drawn_model(snac.read_config(CODEC))
  write_snac(model, tmp_path)
  found = read_snac(tmp_path)
  assert found.config == model.config and same(found, model)


def test_damaged_and_foreign_files_are_told(tmp_path):
  write_snac(drawn_model(snac.read_config(CODEC)), tmp_path)
  weights = tmp_path / "pytorch_model.bin"
  whole = weights.read_bytes()
  weights.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match="cannot read pytorch_model"):
    read_snac(tmp_path)
  weights.unlink()
  with pytest.raises(UserError, match="cannot read pytorch_model"):
    read_snac(tmp_path)
  weights.write_bytes(whole)
  (tmp_path / "config.json").write_text(json.dumps(SMALL))
  with pytest.raises(UserError, match="'generator'"):
    read_unit_hifigan(weights)
  torch.save(torch.zeros(3), tmp_path / "g_tensor")
  with pytest.raises(UserError, match="a Tensor"):
    read_unit_hifigan(tmp_path / "g_tensor")
  (tmp_path / "config.json").write_text(json.dumps(CODEC | {"codebook_size": 9}))
  with pytest.raises(UserError, match=r"codebook\.weight: shape \(8, 8\), ours is \(9, 8\)"):
    read_snac(tmp_path)


@pytest.mark.parametrize(
  "change", [{"encoder_rates": [2, 4]}, {"encoder_dim": "48"}, {"vq_strides": 4}, {"decoder_rates": None}], ids=str
)
def test_a_config_of_a_codec_whose_values_do_not_fit_is_told(tmp_path, change):
  (tmp_path / "config.json").write_text(json.dumps(CODEC | change))
  with pytest.raises(UserError, match=r"cannot use the values of config\.json"):
    read_snac(tmp_path)


@pytest.mark.parametrize(
  "change",
  [{"upsample_kernel_sizes": [11]}, {"upsample_rates": 5}, {"dur_predictor_params": {"var_pred_dropout": 0.5}}],
  ids=str,
)
def test_a_config_of_a_unit_vocoder_whose_values_do_not_fit_is_told(tmp_path, change):
  (tmp_path / "config.json").write_text(json.dumps(SMALL | change))
  with pytest.raises(UserError, match=r"cannot use the values of config\.json"):
    read_unit_hifigan(tmp_path / "g_00000007")
