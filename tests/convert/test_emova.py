import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.convert.emova import (
  HF,
  ORIGIN,
  Layout,
  decoder_from_card,
  emova_rules,
  emova_shapes,
  find_layout,
  import_emova,
)
from omni_jax.convert.language_card import language_card
from omni_jax.convert.table import export_tensors, tensor_shapes
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EMOVA_3B, EMOVA_7B, EMOVA_72B
from omni_jax.models.moe import ExpertsConfig
from omni_jax.models.sizes import LLAMA_3_1_8B
from tests.models.twins import emova_config

OTHER = Layout(body="model.language_model.", head="", vision="model.visual.", projector="multi_modal_projector.net.")
EXPERTS = ExpertsConfig(num_experts=3, num_chosen=2, num_shared=1, mlp_dim=8, balance_weight=0.001)
CONFIGS = {
  "untied": emova_config(tied=False),
  "tied": emova_config(tied=True),
  "experts": emova_config(tied=False, qkv_bias=False, experts=EXPERTS, dense_depth=1),
}


def leaves_of(config, dtype="float32"):
  model = config.make(key=jax.random.key(0))
  return {path: np.asarray(leaf.astype(dtype)) for path, leaf in trees.flatten(model).items()}


@pytest.mark.parametrize("layout", [ORIGIN, HF, OTHER], ids=["origin", "hf", "other"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_key_scheme_comes_back_bit_for_bit(config, layout):
  leaves = leaves_of(config, "bfloat16")
  tensors = export_tensors(emova_rules(config, layout), leaves)
  found = import_emova(config, tensors)
  assert all(found[path].tobytes() == leaves[path].tobytes() for path in leaves)
  expected = layout if not config.decoder.tied else dataclasses.replace(layout, head=ORIGIN.head)
  assert find_layout(config, tensors) == expected


def test_names_and_shapes_of_the_origin_format():
  tensors = export_tensors(emova_rules(CONFIGS["untied"]), leaves_of(CONFIGS["untied"]))
  assert tensors["model.vision_tower.vision_tower.patch_embed.proj.weight"].shape == (16, 3, 2, 2, 2)
  assert tensors["model.vision_tower.vision_tower.blocks.1.attn.qkv.weight"].shape == (48, 16)
  assert tensors["model.mm_projector.0.weight"].shape == (16, 12)
  assert tensors["model.embed_tokens.weight"].shape == (32, 16)


# Tensors, rows of the vocabulary, width of the decoder and of its network, key-value width, layers: the released files.
PUBLISHED = [
  (EMOVA_3B, 829, 2048, 11_008, 256, 36),
  (EMOVA_7B, 734, 3584, 18_944, 512, 28),
  (EMOVA_72B, 1358, 8192, 29_568, 1024, 80),
]


@pytest.mark.parametrize(("config", "number", "width", "mlp", "kv", "depth"), PUBLISHED, ids=["3B", "7B", "72B"])
def test_published_files_hold_exactly_these_tensors(config, number, width, mlp, kv, depth):
  found = tensor_shapes(emova_rules(config), shapes=emova_shapes(config))
  expected = {"model.embed_tokens.weight": (155_776, width), "model.norm.weight": (width,)}
  if not config.decoder.tied:
    expected["lm_head.weight"] = (155_776, width)
  for layer in range(depth):
    block = {"input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,)}
    for name, rows in (("q", width), ("k", kv), ("v", kv)):
      block |= {f"self_attn.{name}_proj.weight": (rows, width), f"self_attn.{name}_proj.bias": (rows,)}
    block["self_attn.o_proj.weight"] = (width, width)
    block |= {"mlp.gate_proj.weight": (mlp, width), "mlp.up_proj.weight": (mlp, width)}
    block["mlp.down_proj.weight"] = (width, mlp)
    expected |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
  linear = {"merger.mlp.0": (5120, 5120), "merger.mlp.2": (3584, 5120)}
  norms = {"merger.ln_q"}
  for layer in range(32):
    linear |= {f"blocks.{layer}.attn.qkv": (3840, 1280), f"blocks.{layer}.attn.proj": (1280, 1280)}
    linear |= {f"blocks.{layer}.mlp.fc1": (5120, 1280), f"blocks.{layer}.mlp.fc2": (1280, 5120)}
    norms |= {f"blocks.{layer}.norm1", f"blocks.{layer}.norm2"}
  tower = {"patch_embed.proj.weight": (1280, 3, 2, 14, 14)}
  for name, shape in linear.items():
    tower |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
  tower |= {f"{name}.{part}": (1280,) for name in norms for part in ("weight", "bias")}
  expected |= {f"model.vision_tower.vision_tower.{name}": shape for name, shape in tower.items()}
  for name, inputs in (("0", 3584), ("2", width)):
    expected |= {f"model.mm_projector.{name}.weight": (width, inputs), f"model.mm_projector.{name}.bias": (width,)}
  assert found == expected and len(found) == number
  hf = set(tensor_shapes(emova_rules(config, HF), shapes=emova_shapes(config)))
  assert len(hf) == number
  assert {name.split(".")[0] for name in hf} == {"language_model", "vision_tower", "mm_projector"}


def test_text_and_extra_rows_join_to_the_released_table():
  for config in (EMOVA_3B, EMOVA_7B, EMOVA_72B):
    decoder = config.decoder
    assert decoder.vocab_size == 151_665  # the tokenizer before units; units are ids 151,665 to 155,760
    assert decoder.vocab_size + 4096 == config.image_token
    assert (decoder.vocab_size + decoder.extra_vocab_size) % 128 == 0
  config = CONFIGS["untied"]
  leaves = leaves_of(config)
  table = export_tensors(emova_rules(config), leaves)["model.embed_tokens.weight"]
  np.testing.assert_array_equal(table[: config.decoder.vocab_size], leaves["decoder.embed.text"])
  np.testing.assert_array_equal(table[config.decoder.vocab_size :], leaves["decoder.embed.extra"])


def test_a_stored_head_of_a_tied_model_must_be_its_table():
  config = CONFIGS["tied"]
  leaves = leaves_of(config)
  tensors = export_tensors(emova_rules(config, HF), leaves)
  tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].copy()
  assert import_emova(config, tensors).keys() == leaves.keys()
  tensors["language_model.lm_head.weight"] += 1
  with pytest.raises(UserError, match="differs from language_model"):
    import_emova(config, tensors)


def test_what_is_missing_left_over_or_twice_is_told():
  config = CONFIGS["untied"]
  tensors = export_tensors(emova_rules(config, HF), leaves_of(config))
  tensors["model.image_newline"] = np.zeros(16, np.float32)
  del tensors["language_model.lm_head.weight"], tensors["vision_tower.blocks.1.attn.qkv.bias"]
  with pytest.raises(UserError) as caught:
    import_emova(config, tensors)
  for line in ("- model.image_newline", "+ lm_head.weight", "+ vision_tower.blocks.1.attn.qkv.bias"):
    assert line in caught.value.what
  twice = export_tensors(emova_rules(config, HF), leaves_of(config))
  twice |= {f"copy.{name}": tensor for name, tensor in twice.items()}
  with pytest.raises(UserError, match="body fits under"):
    import_emova(config, twice)


def test_the_decoder_of_each_config_file():
  decoder = EMOVA_7B.decoder
  card = language_card(decoder, dtype="bfloat16")
  assert decoder_from_card(card | {"model_type": "emova_qwen2"}, text_rows=151_665) == decoder
  assert decoder_from_card({"model_type": "emova", "text_config": card}, text_rows=151_665) == decoder
  tied = EMOVA_3B.decoder
  card = language_card(tied, dtype="bfloat16")
  del card["tie_word_embeddings"]  # stated once, beside text_config
  card = {"model_type": "emova", "text_config": card, "tie_word_embeddings": True}
  assert decoder_from_card(card, text_rows=151_665) == tied
  llama = dataclasses.replace(LLAMA_3_1_8B, extra_vocab_size=4096)
  card = language_card(llama, dtype="bfloat16") | {"model_type": "emova_llama"}
  assert card["vocab_size"] == 132_352
  assert decoder_from_card(card, text_rows=128_256) == llama
  with pytest.raises(UserError, match="vocab_size 132352"):
    decoder_from_card(card, text_rows=151_665)
