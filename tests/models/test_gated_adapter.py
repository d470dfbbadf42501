import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core import trees
from omni_jax.models.gated_adapter import MINI_OMNI_ADAPTER, GatedAdapterConfig
from tests.models.drawn import drawn


def test_it_is_the_product_of_a_gate_and_a_value():
  adapter = drawn(GatedAdapterConfig(inputs=5, mlp_dim=7, outputs=3))
  x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
  gate, up, down = (np.asarray(layer.weight[...]) for layer in (adapter.gate, adapter.up, adapter.down))
  opened = (x @ gate) / (1 + np.exp(-(x @ gate)))
  np.testing.assert_allclose(adapter(jnp.asarray(x)), (opened * (x @ up)) @ down, atol=1e-5)


def test_it_has_the_parameters_of_mini_omnis():
  assert trees.count(jax.eval_shape(lambda: MINI_OMNI_ADAPTER.make(key=jax.random.key(0)))) == 11_829_248
