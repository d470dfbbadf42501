import json

import jax
import numpy as np
import pytest

from omni_jax.convert.snac import read_config, snac_rules, write_config
from omni_jax.convert.table import export_tensors, import_leaves, tensor_shapes
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.snac import SNAC_24KHZ
from tests.speech.drawn import drawn_model

RELEASED = {
  "sampling_rate": 24000,
  "encoder_dim": 48,
  "encoder_rates": [2, 4, 8, 8],
  "decoder_dim": 1024,
  "decoder_rates": [8, 8, 4, 2],
  "attn_window_size": None,
  "codebook_size": 4096,
  "codebook_dim": 8,
  "vq_strides": [4, 2, 1],
  "noise": True,
  "depthwise": True,
}
ORIGINAL0, ORIGINAL1 = "parametrizations.weight.original0", "parametrizations.weight.original1"


def test_the_released_codec_has_its_names_shapes_and_count():
  model = jax.eval_shape(lambda: SNAC_24KHZ.make(key=jax.random.key(0)))
  shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(model).items()}
  found = tensor_shapes(snac_rules(SNAC_24KHZ), shapes=shapes)
  sizes = {part: sum(int(np.prod(found[name])) for name in found if name.startswith(part)) for part in "eqd"}
  assert len(found) == 269
  assert sizes == {"e": 6_690_672, "q": 139_824, "d": 13_012_418}
  assert found[f"decoder.model.0.{ORIGINAL1}"] == (768, 1, 7)
  assert found[f"decoder.model.2.block.1.{ORIGINAL1}"] == (1024, 512, 16)
  assert found[f"decoder.model.2.block.1.{ORIGINAL0}"] == (1024, 1, 1)
  assert found[f"decoder.model.5.block.2.linear.{ORIGINAL1}"] == (64, 64, 1)
  assert found["decoder.model.6.alpha"] == (1, 64, 1)
  assert found["quantizer.quantizers.2.codebook.weight"] == (4096, 8)
  assert found[f"encoder.block.5.{ORIGINAL1}"] == (768, 1, 7)


def test_the_config_comes_back():
  assert read_config(RELEASED) == SNAC_24KHZ
  assert json.loads(json.dumps(write_config(SNAC_24KHZ))) == RELEASED | {"latent_dim": 768}


def test_weights_come_back_bit_for_bit():
  config = read_config(RELEASED | {"encoder_dim": 2, "decoder_dim": 16, "codebook_size": 8})
  rules, leaves = snac_rules(config), trees.flatten(drawn_model(config))
  shapes = {path: leaf.shape for path, leaf in leaves.items()}
  found = import_leaves(rules, export_tensors(rules, leaves), shapes=shapes)
  assert all(np.array_equal(found[path], leaves[path]) for path in leaves)


@pytest.mark.parametrize(
  ("change", "what"), [({"attn_window_size": 32}, "attn_window_size 32"), ({"latent_dim": 100}, "latent_dim 100")]
)
def test_a_config_that_asks_for_more_is_refused(change, what):
  with pytest.raises(UserError, match=what):
    read_config(RELEASED | change)


def test_missing_fields_are_listed():
  with pytest.raises(UserError, match="no vq_strides, noise"):
    read_config({key: value for key, value in RELEASED.items() if key not in ("vq_strides", "noise")})
