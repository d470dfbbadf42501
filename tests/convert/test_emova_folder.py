import dataclasses
import json

import jax
import numpy as np
import pytest

from omni_jax.convert.emova_folder import OWN_CONFIG, export_folder, import_folder, read_config
from omni_jax.convert.shards import Folder
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EMOVA_3B
from tests.models.twins import emova_config

CONFIGS = {"tied": emova_config(tied=True), "untied": emova_config(tied=False)}


def leaves_of(config):
  return {path: leaf.astype("bfloat16") for path, leaf in trees.flatten(config.make(key=jax.random.key(0))).items()}


@pytest.mark.parametrize("own", [True, False], ids=["own config", "as released"])
@pytest.mark.parametrize("scheme", ["origin", "hf"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_folders_come_back_bit_for_bit(config, scheme, own, tmp_path):
  leaves = leaves_of(config)
  export_folder(config, leaves, tmp_path, scheme=scheme, shard_bytes=5000)
  if not own:
    (tmp_path / OWN_CONFIG).unlink()
  found, arrays = import_folder(tmp_path, text_rows=config.decoder.vocab_size)
  expected = config if own or scheme == "hf" else dataclasses.replace(config, image_token=found.image_token)
  assert found == expected
  assert all(np.array_equal(arrays[path].view("uint16"), leaves[path].view("uint16")) for path in leaves)


def test_a_head_stored_beside_a_tied_table_is_left_out_if_it_is_the_same(tmp_path):
  from safetensors.numpy import save_file

  config = CONFIGS["tied"]
  export_folder(config, leaves_of(config), tmp_path, scheme="origin")
  tensors = dict(Folder(tmp_path))
  table = tensors["model.embed_tokens.weight"]
  save_file({**tensors, "lm_head.weight": table}, tmp_path / "model.safetensors")
  assert import_folder(tmp_path)[1].keys() == trees.flatten(config.make(key=jax.random.key(0))).keys()
  save_file({**tensors, "lm_head.weight": table[::-1].copy()}, tmp_path / "model.safetensors")
  with pytest.raises(UserError, match=r"lm_head\.weight differs"):
    import_folder(tmp_path)


def test_a_released_card_is_the_published_size(tmp_path):
  text = {
    "model_type": "qwen2", "vocab_size": 155_776, "hidden_size": 2048, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 2, "intermediate_size": 11_008, "rms_norm_eps": 1e-6,
    "rope_theta": 1e6, "hidden_act": "silu",
  }  # fmt: skip
  card = {
    "model_type": "emova", "text_config": text, "image_token_index": 155_761, "tie_word_embeddings": True,
    "vision_config": {"type": "Qwen2VisionTower", "model_type": "qwen2_vl", "max_pixels": 3_211_264},
    "mm_projector_config": {"type": "MLPProjector", "mlp_depth": 2},
  }  # fmt: skip
  (tmp_path / "config.json").write_text(json.dumps(card))
  assert read_config(tmp_path, text_rows=151_665) == EMOVA_3B


@pytest.mark.parametrize("damaged", ["{}", "[]", '{"model": 3}', '{"model": {"x": 1}}', '{"model": {"path": "a"}}'])
def test_a_damaged_config_of_ours_is_told(damaged, tmp_path):
  config = CONFIGS["untied"]
  export_folder(config, leaves_of(config), tmp_path, scheme="hf")
  (tmp_path / OWN_CONFIG).write_text(damaged)
  with pytest.raises(UserError):
    read_config(tmp_path, text_rows=20)


def test_configs_that_do_not_say_the_model_are_refused(tmp_path):
  config = CONFIGS["untied"]
  leaves = leaves_of(config)
  with pytest.raises(UserError, match="scheme 'onnx'"):
    export_folder(config, leaves, tmp_path, scheme="onnx")
  assert not list(tmp_path.iterdir())
  export_folder(config, leaves, tmp_path, scheme="hf")
  card = json.loads((tmp_path / "config.json").read_text())

  def written(changes):
    (tmp_path / "config.json").write_text(json.dumps(card | changes))
    return tmp_path

  with pytest.raises(UserError, match="differ in depth"):
    read_config(written({"text_config": card["text_config"] | {"num_hidden_layers": 7}}), text_rows=20)
  (tmp_path / OWN_CONFIG).unlink()
  with pytest.raises(UserError, match="projector 'CAbstractor'"):
    read_config(written({"mm_projector_config": {"type": "CAbstractor"}}), text_rows=20)
  with pytest.raises(UserError, match="image tower 'UNIT'"):
    read_config(written({"vision_config": {"type": "UNIT"}}), text_rows=20)
  with pytest.raises(UserError, match="model_type"):
    read_config(written({"model_type": "bert"}), text_rows=20)
  with pytest.raises(UserError, match=r"cannot use the values of config\.json"):
    read_config(written({"text_config": card["text_config"] | {"vocab_size": "many"}}), text_rows=20)
