import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.table import import_leaves
from omni_jax.convert.vision import vision_rules
from omni_jax.core import trees
from omni_jax.models import vision_encoder
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION
from omni_jax.nn.attention import Kernel
from tests.models.drawn import drawn
from tests.models.twins import shaken, vision_config, vision_twin

GRIDS = ((2, 4), (4, 6))  # two images in one row, in patches


call = jax.jit(lambda tower, inputs: tower(*inputs))


def merge_order(rows, columns):
  cells = np.stack(np.mgrid[:rows, :columns], axis=-1).reshape(rows // 2, 2, columns // 2, 2, 2)
  return cells.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def images(padding=4, patch=2):
  """Returns patches 0..255, positions and segment ids of one row, and the patches as transformers wants them."""
  positions = np.concatenate([merge_order(*grid) for grid in GRIDS])
  total = len(positions)
  patches = np.random.default_rng(0).integers(0, 256, (total, patch, patch, 3)).astype(np.uint8)
  config = vision_config()
  normal = (patches / 255 - np.array(config.pixel_mean)) / np.array(config.pixel_deviation)
  theirs = np.repeat(normal.transpose(0, 3, 1, 2)[:, :, None], 2, axis=2).reshape(total, -1).astype(np.float32)
  segments = np.repeat([1, 2], [rows * columns for rows, columns in GRIDS])
  pad = ((0, padding), (0, 0))
  ours = (
    jnp.asarray(np.pad(patches.reshape(total, -1), pad))[None],
    jnp.asarray(np.pad(positions, pad))[None],
    jnp.asarray(np.pad(segments, (0, padding)))[None],
  )
  return ours, theirs


def test_tower_and_gradients_equal_transformers():
  torch = pytest.importorskip("torch")
  tower = shaken(vision_config().make(key=jax.random.key(0)))
  twin = vision_twin(tower)
  inputs, theirs = images()
  grid = torch.tensor([[1, *grid] for grid in GRIDS])
  expected = twin(torch.from_numpy(theirs), grid_thw=grid)
  total = len(theirs)
  np.testing.assert_allclose(tower.hidden(*inputs)[0, :total], expected.last_hidden_state.detach(), atol=1e-4)
  np.testing.assert_allclose(call(tower, inputs)[0, : total // 4], expected.pooler_output.detach(), atol=1e-4)

  (expected.pooler_output**2).mean().backward()
  gradients = {name: p.grad.numpy() for name, p in twin.named_parameters()}
  shapes = {path: leaf.shape for path, leaf in trees.flatten(tower).items()}
  leaves = import_leaves(vision_rules(tower.config), gradients, shapes=shapes)
  found = jax.jit(jax.grad(lambda t: (t(*inputs)[:, : total // 4] ** 2).mean()))(tower)
  for path, gradient in trees.flatten(found).items():
    np.testing.assert_allclose(gradient, leaves[path], atol=2e-4, rtol=1e-3, err_msg=path)


def test_images_of_a_row_do_not_see_each_other_nor_the_padding():
  tower = shaken(vision_config().make(key=jax.random.key(0)))
  (patches, positions, segments), _ = images()
  alone = call(tower, (patches[:, :8], positions[:, :8], segments[:, :8]))
  np.testing.assert_allclose(call(tower, (patches, positions, segments))[:, :2], alone, atol=1e-5)


def test_the_kernel_of_a_tpu_gives_the_same(monkeypatch):
  tower, (inputs, _) = drawn(vision_config()), images()
  expected = call(tower, inputs)
  monkeypatch.setattr(vision_encoder, "choose_kernel", lambda *_, **__: Kernel.SPLASH)
  found = jax.jit(lambda tower, inputs: tower(*inputs))(tower, inputs)
  np.testing.assert_allclose(found[:, :8], expected[:, :8], atol=1e-4)  # the ninth cell is padding


def test_bytes_equal_floats():
  tower = vision_config(temporal_patch=1).make(key=jax.random.key(0))
  (patches, positions, segments), _ = images()
  floats = tower(patches.astype(jnp.float32), positions, segments)
  np.testing.assert_array_equal(tower(patches, positions, segments), floats)


def test_published_size():
  tower = jax.eval_shape(lambda: QWEN2_VL_7B_VISION.make(key=jax.random.key(0)))
  assert trees.count(tower) == 675_759_104
