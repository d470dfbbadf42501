import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.table import import_leaves, tensor_shapes
from omni_jax.convert.vision import fixed_vision_rules
from omni_jax.core import trees
from omni_jax.models.fixed_vision_encoder import (
  CLIP_L_336,
  INTERNVIT_6B_448,
  INTERNVIT_300M_448,
  SIGLIP_SO400M_384,
)
from omni_jax.nn.stack import slice_layer
from tests.models import towers
from tests.models.drawn import drawn
from tests.models.towers import STOCK, stock_twin, tower

call = jax.jit(lambda tower, tiles: tower(tiles))
embed = jax.jit(lambda tower, tiles: tower.embed(tiles))
first_layer = jax.jit(lambda tower, x: slice_layer(tower.blocks, 0)(x))


def images(config, *, rows=None, columns=None):
  """Returns two images as ours, bytes [B, Y, X, 3], and as theirs, normalised floats [B, 3, Y, X]."""
  torch = pytest.importorskip("torch")
  shape = (2, rows or config.side, columns or config.side, 3)
  tiles = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  normal = (tiles / 255 - np.array(config.pixel_mean)) / np.array(config.pixel_deviation)
  return jnp.asarray(tiles), torch.from_numpy(normal.transpose(0, 3, 1, 2).astype(np.float32))


def close(ours, theirs, *, tolerance):
  """Largest difference relative to the largest value."""
  theirs = np.asarray(theirs.detach())
  assert np.abs(np.asarray(ours) - theirs).max() <= tolerance * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("name", STOCK)
def test_embedding_layer_and_tower_equal_transformers(name):
  config = STOCK[name][0]
  ours = tower(config)
  twin = stock_twin(ours, name)
  tiles, pixels = images(config)
  expected = twin(pixels, output_hidden_states=True).hidden_states
  close(embed(ours, tiles), expected[0], tolerance=1e-5)
  close(first_layer(ours, jnp.asarray(expected[0].detach())), expected[1], tolerance=1e-5)
  # What EMOVA's wrappers read: the states after `features_after` layers, the class token dropped, no last norm.
  close(call(ours, tiles), expected[config.features_after][:, int(config.class_token) :], tolerance=1e-4)


@pytest.mark.parametrize("name", ["clip", "internvit-6b"])
def test_gradients_equal_transformers(name):
  config, _, names = STOCK[name]
  ours = tower(config)
  twin = stock_twin(ours, name)
  tiles, pixels = images(config)
  states = twin(pixels, output_hidden_states=True).hidden_states[config.features_after]
  (states[:, 1:] ** 2).mean().backward()
  zeros = {key: np.zeros(p.shape, np.float32) for key, p in twin.named_parameters() if p.grad is None}
  theirs = {key: p.grad.numpy() for key, p in twin.named_parameters() if p.grad is not None}
  shapes = {path: leaf.shape for path, leaf in trees.flatten(ours).items()}
  leaves = import_leaves(fixed_vision_rules(config, names), {**theirs, **zeros}, shapes=shapes)
  found = jax.jit(jax.grad(lambda tower: (tower(tiles) ** 2).mean()))(ours)
  for path, gradient in trees.flatten(found).items():
    scale = max(1.0, np.abs(leaves[path]).max())
    assert np.abs(gradient - leaves[path]).max() <= 1e-4 * scale, path


def test_layers_that_are_not_read_do_not_count():
  ours = tower(towers.SIGLIP)
  tiles, _ = images(towers.SIGLIP)
  # EMOVA's files of SigLIP lack the last layer; the features are those of the whole file.
  shorter = drawn(dataclasses.replace(towers.SIGLIP, depth=2))
  leaves = trees.flatten(ours)
  kept = {path: leaf[:2] if path.startswith("blocks") else leaf for path, leaf in leaves.items()}
  np.testing.assert_array_equal(call(trees.unflatten(shorter, kept), tiles), call(ours, tiles))


@pytest.mark.parametrize(("rows", "columns"), [(12, 21), (9, 6)])
def test_positions_are_interpolated_for_other_sizes(rows, columns):
  ours = tower(towers.INTERNVIT_300M)
  twin = stock_twin(ours, "internvit-300m")
  tiles, pixels = images(towers.INTERNVIT_300M, rows=rows, columns=columns)
  close(call(ours, tiles), twin(pixels).last_hidden_state[:, 1:], tolerance=1e-4)


def test_bytes_equal_floats():
  ours = tower(towers.CLIP)
  tiles, _ = images(towers.CLIP)
  np.testing.assert_array_equal(call(ours, tiles), call(ours, tiles.astype(jnp.float32)))


def test_remat_changes_nothing():
  ours = tower(towers.CLIP)
  other = drawn(dataclasses.replace(towers.CLIP, remat=True))
  tiles, _ = images(towers.CLIP)
  np.testing.assert_allclose(call(other, tiles), call(ours, tiles), atol=1e-6)


def test_impossible_configs_are_refused():
  with pytest.raises(AssertionError, match="no multiple"):
    dataclasses.replace(towers.CLIP, num_heads=4)
  with pytest.raises(AssertionError, match="of 3 layers"):
    dataclasses.replace(towers.CLIP, features_after=4)


@pytest.mark.parametrize(
  ("config", "parameters"),
  [
    (CLIP_L_336, 303_507_456),  # sum over CLIPVisionModel
    (SIGLIP_SO400M_384, 428_225_600 - 15_238_352),  # SiglipVisionModel without its pooling head
    (INTERNVIT_300M_448, 304_012_288),  # 304 M on OpenGVLab's card
    (INTERNVIT_6B_448, 5_536_496_000),  # 5.54 B on OpenGVLab's card
  ],
)
def test_published_sizes(config, parameters):
  assert trees.count(jax.eval_shape(lambda: config.make(key=jax.random.key(0)))) == parameters


@pytest.mark.parametrize("name", STOCK)
def test_published_sizes_equal_transformers(name):
  torch = pytest.importorskip("torch")
  config = dict(zip(STOCK, (CLIP_L_336, SIGLIP_SO400M_384, INTERNVIT_300M_448, INTERNVIT_6B_448), strict=True))[name]
  with torch.device("meta"):
    twin = STOCK[name][1](config)
  shapes = trees.flatten(jax.eval_shape(lambda: config.make(key=jax.random.key(0))))
  assert sum(leaf.size for leaf in shapes.values()) == sum(p.numel() for p in twin.parameters())
  ours = {path: leaf.shape for path, leaf in shapes.items()}
  found = tensor_shapes(fixed_vision_rules(config, STOCK[name][2]), shapes=ours)
  assert found == {key: tuple(p.shape) for key, p in twin.named_parameters()}
