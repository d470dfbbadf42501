import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.language import dtype_named, export_language, import_language, language_rules
from omni_jax.convert.language_card import config_from_card, language_card
from omni_jax.convert.shards import Folder, write_folder
from omni_jax.convert.table import tensor_shapes
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.moe import ExpertsConfig
from omni_jax.models.sizes import DEEPSEEK_MOE_TINY, LLAMA_3_1_70B, LLAMA_7B, QWEN2_5_7B

CONFIG = DecoderConfig(
  vocab_size=20,
  extra_vocab_size=12,
  width=16,
  depth=2,
  num_heads=2,
  num_kv_heads=1,
  head_dim=16,  # not width / num_heads, which a reader must not assume
  mlp_dim=24,
  rope_theta=100.0,
  norm_eps=1e-5,
  qkv_bias=True,
  tied=True,
)


def make(**changes):
  return dataclasses.replace(CONFIG, **changes).make(key=jax.random.key(0))


LLAMA = {"qkv_bias": False, "rope_scaling": LLAMA_3_1_70B.rope_scaling}


@pytest.mark.parametrize("changes", [{"tied": True}, {"tied": False}, {"tied": False, **LLAMA}])
def test_transformers_loads_the_folder_with_equal_logits(tmp_path, changes):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  model = make(**changes)
  export_language(model, tmp_path)
  twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
  tokens = np.random.default_rng(0).integers(0, 32, (2, 7))
  with torch.no_grad():
    expected = twin(torch.from_numpy(tokens)).logits.numpy()
  positions = jnp.tile(jnp.arange(7), (2, 1))
  found = model(jnp.asarray(tokens), positions, jnp.ones((2, 7), int))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_export_and_import_give_the_same_bits(tmp_path, tied, dtype):
  model = jax.tree.map(lambda leaf: leaf.astype(dtype), make(tied=tied))
  export_language(model, tmp_path, dtype=dtype)
  found = import_language(tmp_path, extra_vocab_size=12)
  assert found.config == model.config
  for (path, ours), theirs in zip(trees.flatten(model).items(), jax.tree.leaves(found), strict=True):
    assert theirs.dtype == dtype and np.asarray(ours).tobytes() == np.asarray(theirs).tobytes(), path


@pytest.mark.parametrize("size", [QWEN2_5_7B, LLAMA_7B, LLAMA_3_1_70B, DEEPSEEK_MOE_TINY])
def test_card_and_config_are_inverse(size):
  assert config_from_card(language_card(size, dtype="bfloat16"), extra_vocab_size=0) == size


def test_a_window_is_in_the_card():
  config = dataclasses.replace(CONFIG, window=8, full_depth=1)
  card = language_card(config, dtype="float32")
  assert (card["use_sliding_window"], card["sliding_window"], card["max_window_layers"]) == (True, 8, 1)
  assert config_from_card(card, extra_vocab_size=12) == config
  assert config_from_card(card | {"use_sliding_window": False}, extra_vocab_size=12) == CONFIG


def test_rope_parameters_of_new_files_are_read():
  card = language_card(LLAMA_3_1_70B, dtype="bfloat16")
  rope = card.pop("rope_scaling") | {"rope_theta": card.pop("rope_theta")}
  assert config_from_card(card | {"rope_parameters": rope}, extra_vocab_size=0) == LLAMA_3_1_70B


EXPERTS = ExpertsConfig(num_experts=3, num_chosen=2, num_shared=2, mlp_dim=8, balance_weight=0.001)


def test_experts_come_back_with_the_same_bits(tmp_path):
  model = make(qkv_bias=False, tied=False, depth=3, experts=EXPERTS, dense_depth=1)
  export_language(model, tmp_path)
  card = json.loads((tmp_path / "config.json").read_text())
  assert card["model_type"] == "deepseek_v2" and card["use_mla"] is False
  found = import_language(tmp_path, extra_vocab_size=12)
  assert found.config == model.config
  for (path, ours), theirs in zip(trees.flatten(model).items(), jax.tree.leaves(found), strict=True):
    assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes(), path


# The tensors of DeepSeek-VL2-tiny's language model: tables, last norm; 12 x (4 attention, 2 norms); one dense network;
# 11 x (64 experts, shared, router).
def test_tensors_of_deepseek_moe_tiny():
  shapes = {
    path: leaf.shape
    for path, leaf in trees.flatten(jax.eval_shape(lambda: DEEPSEEK_MOE_TINY.make(key=jax.random.key(0)))).items()
  }
  found = tensor_shapes(language_rules(DEEPSEEK_MOE_TINY), shapes=shapes)
  assert len(found) == 3 + 12 * 6 + 3 + 11 * (64 * 3 + 3 + 1)
  assert found["model.layers.0.mlp.up_proj.weight"] == (6848, 1280)
  assert found["model.layers.11.mlp.experts.63.down_proj.weight"] == (1280, 896)
  assert found["model.layers.1.mlp.shared_experts.gate_proj.weight"] == (1792, 1280)
  assert found["model.layers.1.mlp.gate.weight"] == (64, 1280)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"qkv_bias": False, "window": 4}, "window in a decoder of the llama kind"),
    ({"qkv_bias": True, "experts": EXPERTS}, "qkv_bias in a decoder of the deepseek_v2 kind"),
  ],
)
def test_decoders_that_no_architecture_has_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    language_card(dataclasses.replace(CONFIG, **changes), dtype="float32")


@pytest.mark.parametrize(
  ("family", "changes", "message"),
  [
    ("qwen2", {"model_type": "mistral"}, "model_type 'mistral'"),
    ("qwen2", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn'"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "of type llama3 with factor"),
    ("llama", {"attention_bias": True}, "attention_bias True"),
    ("deepseek", {"use_mla": True}, "use_mla True"),
    ("deepseek", {"topk_method": "group_limited_greedy"}, "group_limited_greedy"),
    ("deepseek", {"norm_topk_prob": True}, "norm_topk_prob True"),
  ],
)
def test_cards_of_what_we_lack_are_refused(family, changes, message):
  size = {"qwen2": QWEN2_5_7B, "llama": LLAMA_7B, "deepseek": DEEPSEEK_MOE_TINY}[family]
  with pytest.raises(UserError, match=message):
    config_from_card(language_card(size, dtype="float32") | changes, extra_vocab_size=0)


def test_fields_and_layers_that_are_missing_are_told(tmp_path):
  with pytest.raises(UserError, match="unknown dtype 'int8'"):
    dtype_named("int8")
  card = language_card(CONFIG, dtype="float32")
  with pytest.raises(UserError, match="hidden_size"):
    config_from_card({k: v for k, v in card.items() if k != "hidden_size"}, extra_vocab_size=0)
  export_language(make(), tmp_path)
  (tmp_path / "config.json").write_text(json.dumps(card | {"num_hidden_layers": 3}))
  with pytest.raises(UserError, match=r"\+ model\.layers\.2\.mlp"):
    import_language(tmp_path, extra_vocab_size=12)


def test_a_head_stored_beside_the_table_it_equals_is_read(tmp_path):
  model = make()
  export_language(model, tmp_path)
  tensors = dict(Folder(tmp_path))
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
  write_folder(tmp_path, tensors.items())
  assert import_language(tmp_path, extra_vocab_size=12).config == model.config
  write_folder(tmp_path, (tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1}).items())
  with pytest.raises(UserError, match="differs from model"):
    import_language(tmp_path, extra_vocab_size=12)
