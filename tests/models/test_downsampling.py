import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.table import import_leaves
from omni_jax.convert.vision import projector_rules
from omni_jax.core import trees
from omni_jax.models.downsampling import (
  C_ABSTRACTOR_8B,
  SELF_MINING_8B,
  ConcatenationMixer,
  ConvolutionMixer,
  DownsamplingConfig,
  MeanMixer,
  MiningMixer,
  cell_means,
)
from tests.models.drawn import drawn
from tests.models.twins import load_twin

SMALL = DownsamplingConfig(inputs=12, outputs=10, side=6, out_side=3, mixer=MeanMixer())
CONFIGS = {
  "convolution": dataclasses.replace(SMALL, mixer=ConvolutionMixer(width=8, depth=2)),
  "mining": dataclasses.replace(SMALL, mixer=MiningMixer(head_dim=6)),
  "mean": SMALL,
  "concatenation": dataclasses.replace(SMALL, mixer=ConcatenationMixer()),
}
call = jax.jit(lambda projector, x: projector(x))


def some_vectors(*shape):
  return jnp.asarray(np.random.default_rng(1).standard_normal((*shape, 12)).astype(np.float32))


def pair(config, kind):
  pytest.importorskip("torch")
  from tests.models.torch_projectors import Projector

  ours = drawn(config)
  return ours, load_twin(Projector(config, kind), projector_rules(config), ours)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("extras", [False, True])
def test_projectors_equal_torch(kind, extras):
  torch = pytest.importorskip("torch")
  ours, twin = pair(dataclasses.replace(CONFIGS[kind], input_norm=extras, positions=extras), kind)
  x = some_vectors(2, 36)
  np.testing.assert_allclose(call(ours, x), twin(torch.from_numpy(np.array(x))).detach(), atol=1e-5)


@pytest.mark.parametrize("kind", ["convolution", "mean"])
def test_cells_that_do_not_divide_the_square_overlap(kind):
  # SigLIP's 27 vectors a side become 16 (EMOVA's llama3_1_siglip_anyres.py).
  torch = pytest.importorskip("torch")
  ours, twin = pair(dataclasses.replace(CONFIGS[kind], side=7, out_side=4), kind)
  x = some_vectors(1, 49)
  np.testing.assert_allclose(call(ours, x), twin(torch.from_numpy(np.array(x))).detach(), atol=1e-5)


@pytest.mark.parametrize("kind", ["convolution", "mining"])
def test_gradients_equal_torch(kind):
  torch = pytest.importorskip("torch")
  ours, twin = pair(CONFIGS[kind], kind)
  x = some_vectors(2, 36)
  (twin(torch.from_numpy(np.array(x))) ** 2).mean().backward()
  shapes = {path: leaf.shape for path, leaf in trees.flatten(ours).items()}
  gradients = {name: p.grad.numpy() for name, p in twin.named_parameters()}
  leaves = import_leaves(projector_rules(CONFIGS[kind]), gradients, shapes=shapes)
  found = jax.jit(jax.grad(lambda projector: (projector(x) ** 2).mean()))(ours)
  for path, gradient in trees.flatten(found).items():
    np.testing.assert_allclose(gradient, leaves[path], atol=1e-4, err_msg=path)


def test_means_of_cells():
  np.testing.assert_allclose(cell_means(2, 3), [[0.5, 0.5, 0], [0, 0.5, 0.5]])
  np.testing.assert_allclose(cell_means(27, 27), np.eye(27))


def test_published_sizes():
  parts = trees.flatten(jax.eval_shape(lambda: C_ABSTRACTOR_8B.make(key=jax.random.key(0))))
  mixer = sum(leaf.size for path, leaf in parts.items() if path.startswith("mixer."))
  assert mixer == 17_174_048
  assert sum(leaf.size for leaf in parts.values()) == mixer + 20_979_712
  mining = jax.eval_shape(lambda: SELF_MINING_8B.make(key=jax.random.key(0)))
  # Three maps and two norms of width 1024, then the network to the decoder.
  assert trees.count(mining) == 3 * 1024**2 + 4 * 1024 + (1024 + 1) * 4096 + (4096 + 1) * 4096


def test_impossible_configs_are_refused():
  with pytest.raises(AssertionError, match="no whole cells"):
    dataclasses.replace(CONFIGS["concatenation"], out_side=4)
  with pytest.raises(AssertionError, match="no multiple"):
    dataclasses.replace(CONFIGS["mining"], mixer=MiningMixer(head_dim=5))
