import jax
import numpy as np
import pytest

from omni_jax.convert.table import export_tensors, import_leaves
from omni_jax.convert.vision import vision_rules
from omni_jax.core import trees
from tests.models.twins import vision_config


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_tower_comes_back_bit_for_bit(dtype):
  config = vision_config()
  model = config.make(key=jax.random.key(0))
  leaves = {path: np.asarray(leaf.astype(dtype)) for path, leaf in trees.flatten(model).items()}
  tensors = export_tensors(vision_rules(config), leaves)
  assert tensors["patch_embed.proj.weight"].shape == (16, 3, 2, 2, 2)
  assert tensors["blocks.1.attn.qkv.weight"].shape == (48, 16)
  found = import_leaves(vision_rules(config), tensors, shapes={path: leaf.shape for path, leaf in leaves.items()})
  assert all(found[path].tobytes() == leaves[path].tobytes() for path in leaves)
