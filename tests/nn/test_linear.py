import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from omni_jax.nn.feed_forward import GatedFeedForward
from omni_jax.nn.linear import Linear
from tests.train.test_meshes import abstract_mesh


def test_weight_is_inputs_by_outputs_and_bias_is_optional():
  layer = Linear(3, 5, axes=("embed", "mlp"), bias=True, key=jax.random.key(0))
  assert layer.weight[...].shape == (3, 5) and layer.bias is not None
  np.testing.assert_allclose(layer(jnp.eye(3)), layer.weight[...])
  assert Linear(3, 5, axes=("embed", "mlp"), bias=False, key=jax.random.key(0)).bias is None


def test_rows_and_positions_are_laid_flat_only_on_one_device():
  """Laid flat, rows split over one mesh axis and positions over another are gathered first."""
  layer, x = Linear(3, 5, axes=("embed", "mlp"), bias=False, key=jax.random.key(0)), jnp.ones((2, 4, 3))
  names = lambda: [equation.primitive.name for equation in jax.make_jaxpr(layer)(x).jaxpr.eqns]  # noqa: E731
  assert "reshape" in names()
  with jax.sharding.use_abstract_mesh(abstract_mesh(fsdp=2, sequence=2)):
    assert names() == ["dot_general"]


def test_what_lies_inside_a_network_stays_with_its_positions():
  layer, x = GatedFeedForward(width=4, mlp_dim=8, key=jax.random.key(0)), jnp.ones((2, 4, 4))
  with jax.sharding.use_abstract_mesh(abstract_mesh(fsdp=2, sequence=2, tensor=2)):
    equations = jax.make_jaxpr(layer)(x).jaxpr.eqns
  specs = [each.params["sharding"].spec for each in equations if each.primitive.name == "sharding_constraint"]
  assert specs == [PartitionSpec("fsdp", "sequence", "tensor")] * 2
