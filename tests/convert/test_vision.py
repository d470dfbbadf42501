import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.convert.table import export_tensors, import_leaves
from omni_jax.convert.vision import emova_rules
from omni_jax.core import trees
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EMOVA_3B, EMOVA_7B, EMOVA_72B, EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig

DECODER = DecoderConfig(
  vocab_size=20,
  extra_vocab_size=12,
  width=16,
  depth=2,
  num_heads=2,
  num_kv_heads=1,
  head_dim=8,
  mlp_dim=24,
  rope_theta=100.0,
  norm_eps=1e-6,
  qkv_bias=True,
  tied=False,
)
VISION = VisionConfig(patch=2, temporal_patch=2, merge=2, width=16, depth=2, num_heads=2, mlp_dim=24, out_width=12)
CONFIG = EmovaConfig(decoder=DECODER, vision=VISION, projector=ProjectorConfig(inputs=12, outputs=16), image_token=3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_origin_format_comes_back_bit_for_bit(tied, dtype):
  config = dataclasses.replace(CONFIG, decoder=dataclasses.replace(DECODER, tied=tied))
  model = config.make(key=jax.random.key(0))
  leaves = {path: np.asarray(leaf.astype(dtype)) for path, leaf in trees.flatten(model).items()}
  shapes = {path: leaf.shape for path, leaf in leaves.items()}
  tensors = export_tensors(emova_rules(config), leaves)
  assert tensors["model.vision_tower.vision_tower.patch_embed.proj.weight"].shape == (16, 3, 2, 2, 2)
  assert tensors["model.vision_tower.vision_tower.blocks.1.attn.qkv.weight"].shape == (48, 16)
  found = import_leaves(emova_rules(config), tensors, shapes=shapes)
  assert all(found[path].tobytes() == leaves[path].tobytes() for path in leaves)


# The number of tensors in the published files.
@pytest.mark.parametrize(("config", "tensors"), [(EMOVA_3B, 829), (EMOVA_7B, 734), (EMOVA_72B, 1358)])
def test_published_files_hold_as_many_tensors(config, tensors):
  shapes = trees.flatten(jax.eval_shape(lambda: config.make(key=jax.random.key(0))))
  rules = emova_rules(config)
  assert {path for rule in rules for path in rule.ours} == set(shapes)
  assert sum(shapes[rule.ours[0]].shape[0] if rule.stacked else 1 for rule in rules) == tensors
