"""UNIT against a torch module written from EMOVA's unit/*.py: positions before the class token, linear resampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.table import export_tensors
from omni_jax.convert.vision import UNIT_NAMES, fixed_vision_rules
from omni_jax.core import trees
from omni_jax.models.fixed_vision_encoder import UNIT_1B_448
from tests.models import towers
from tests.models.drawn import drawn

PREFIX = "vision_tower.unit_model.model."


def torch_features(tensors, pixels, config):
  """Returns the patch vectors of images [B, 3, Y, X], normalised once."""
  import torch
  from torch.nn import functional

  def part(name):
    return tensors[name] if name.startswith("norm") else tensors[PREFIX + name]

  def norm(x, name, eps):
    return functional.layer_norm(x, x.shape[-1:], part(f"{name}.weight"), part(f"{name}.bias"), eps)

  def linear(x, name):
    return functional.linear(x, part(f"{name}.weight"), part(f"{name}.bias"))

  count, _, height, width = pixels.shape
  rows, columns = height // config.patch, width // config.patch
  patches = functional.unfold(pixels, config.patch, stride=config.patch).transpose(1, 2)
  x = functional.linear(patches, part("patch_generator.embedder.weight"))
  side = config.positions_side
  plane = part("patch_generator.pos_embed").reshape(1, side, side, -1).permute(0, 3, 1, 2)
  # The release makes a square of the larger side and cuts it; for squares that is the whole.
  plane = functional.interpolate(plane, size=(rows, columns), mode="bilinear", align_corners=True)
  x = x + plane.flatten(2).transpose(1, 2)
  x = torch.cat([part("patch_generator.cls_token.token").expand(count, -1, -1), x], dim=1)
  for layer in range(config.depth):
    name = f"blocks.{layer}"
    qkv = linear(norm(x, f"{name}.norm1", 1e-6), f"{name}.attn.qkv")
    q, k, v = qkv.reshape(count, -1, 3, config.num_heads, config.width // config.num_heads).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x + linear(mixed, f"{name}.attn.proj")
    inner = functional.gelu(linear(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1"))
    x = x + linear(inner, f"{name}.mlp.fc2")
  return norm(x[:, 1:], "norm", 1e-5)


def test_tower_equals_its_description():
  torch = pytest.importorskip("torch")
  tower = drawn(towers.UNIT)
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(tower).items()}
  tensors = export_tensors(fixed_vision_rules(towers.UNIT, UNIT_NAMES), leaves)
  tensors = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
  tiles = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
  normal = (tiles / 255 - np.array(towers.UNIT.pixel_mean)) / np.array(towers.UNIT.pixel_deviation)
  pixels = torch.from_numpy(normal.transpose(0, 3, 1, 2).astype(np.float32))
  expected = torch_features(tensors, pixels, towers.UNIT).numpy()
  found = jax.jit(lambda tower, tiles: tower(tiles))(tower, jnp.asarray(tiles))
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_size_at_the_class_defaults():
  width, depth = 1280, 50
  layer = 4 * width**2 + 4 * width + 2 * 4 * width**2 + 5 * width + 4 * width
  outside = 588 * width + (73**2 + 1) * width + 2 * width
  assert trees.count(jax.eval_shape(lambda: UNIT_1B_448.make(key=jax.random.key(0)))) == depth * layer + outside
