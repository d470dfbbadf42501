import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.nn.linear import Linear


def test_weight_is_inputs_by_outputs_and_bias_is_optional():
  layer = Linear(3, 5, axes=("embed", "mlp"), bias=True, key=jax.random.key(0))
  assert layer.weight[...].shape == (3, 5) and layer.bias is not None
  np.testing.assert_allclose(layer(jnp.eye(3)), layer.weight[...])
  assert Linear(3, 5, axes=("embed", "mlp"), bias=False, key=jax.random.key(0)).bias is None
