import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core import trees
from omni_jax.models.projectors import ProjectorConfig


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
