import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.language import config_from_card, dtype_named, export_language, import_language, language_card
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import QWEN2_5_7B, DecoderConfig

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


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_the_folder_with_equal_logits(tmp_path, tied):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  model = make(tied=tied)
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


def test_card_and_config_are_inverse():
  assert config_from_card(language_card(QWEN2_5_7B, dtype="bfloat16"), extra_vocab_size=0) == QWEN2_5_7B


def test_what_the_format_lacks_is_refused(tmp_path):
  with pytest.raises(UserError, match="qkv_bias"):
    language_card(dataclasses.replace(CONFIG, qkv_bias=False), dtype="float32")
  with pytest.raises(UserError, match="unknown dtype 'int8'"):
    dtype_named("int8")
  card = language_card(CONFIG, dtype="float32")
  with pytest.raises(UserError, match="model_type 'llama'"):
    config_from_card(card | {"model_type": "llama"}, extra_vocab_size=0)
  with pytest.raises(UserError, match="hidden_size"):
    config_from_card({k: v for k, v in card.items() if k != "hidden_size"}, extra_vocab_size=0)
  export_language(make(), tmp_path)
  (tmp_path / "config.json").write_text(json.dumps(card | {"num_hidden_layers": 3}))
  with pytest.raises(UserError, match=r"\+ model\.layers\.2\.mlp"):
    import_language(tmp_path, extra_vocab_size=12)
