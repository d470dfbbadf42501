import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.vision import projector_rules
from omni_jax.core import trees
from omni_jax.models.projectors import IdentityProjectorConfig, ProjectorConfig, ResidualProjectorConfig
from tests.models.drawn import drawn
from tests.models.twins import load_twin


def test_projector_is_two_layers():
  projector = ProjectorConfig(inputs=6, outputs=4).make(key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (1, 3, 6))
  up, down = projector.feed_forward.up.weight[...], projector.feed_forward.down.weight[...]
  np.testing.assert_allclose(projector(x), jax.nn.gelu(x @ up, approximate=False) @ down, atol=1e-6)
  assert projector(jnp.zeros((1, 3, 6))).shape == (1, 3, 4)


def test_published_sizes():
  for outputs, parameters in ((2048, 11_538_432), (3584, 25_697_280), (8192, 96_485_376)):
    model = jax.eval_shape(
      lambda outputs=outputs: ProjectorConfig(inputs=3584, outputs=outputs).make(key=jax.random.key(0))
    )
    assert trees.count(model) == parameters


def test_residual_block_equals_torch():
  torch = pytest.importorskip("torch")
  from tests.models.torch_projectors import Residual

  config = ResidualProjectorConfig(inputs=6)
  ours = drawn(config)
  twin = load_twin(Residual(6), projector_rules(config), ours)
  x = jax.random.normal(jax.random.key(1), (1, 3, 6))
  np.testing.assert_allclose(ours(x), twin(torch.from_numpy(np.array(x))).detach(), atol=1e-5)


def test_identity_changes_nothing_and_has_no_weights():
  config = IdentityProjectorConfig(inputs=6)
  projector = config.make(key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (1, 3, 6))
  assert projector(x) is x and not trees.flatten(projector) and not projector_rules(config)
  assert config.outputs == 6
