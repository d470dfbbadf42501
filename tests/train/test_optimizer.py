"""The optimizer by its properties: what is frozen has no moments, what is scaled moves by its scale."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omni_jax.core import sharding, trees
from omni_jax.core.errors import UserError
from omni_jax.train.directions import round_randomly
from omni_jax.train.optimizer import Group, OptimizerConfig, Parameter, make_optimizer
from omni_jax.train.state import abstract_state, create, describe
from tests.train.toy import ToyConfig

CONFIG = ToyConfig(width=16, depth=3, vocab_size=24)
PLAIN = OptimizerConfig(learning_rate=0.1)


def make():
  return CONFIG.make(key=jax.random.key(0))


def one_update(config, *, gradient=1.0, steps=10):
  """Returns (parameters, their update at the first step) for a gradient of one value everywhere."""
  model = make()
  optimizer = make_optimizer(config, parameters=describe(model), steps=steps)
  learning = {path: leaf for path, leaf in trees.flatten(model).items() if path not in optimizer.frozen}
  gradients = {path: jnp.full_like(leaf, gradient) for path, leaf in learning.items()}
  return learning, optimizer.transform.update(gradients, optimizer.transform.init(learning), learning)[0]


def test_a_parameter_names_its_own_axes_whatever_stack_it_is_in():
  described = describe(jax.eval_shape(make))
  assert described["blocks.up"].stacked and len(described["blocks.up"].axes) == 2
  assert described["blocks.norm"].stacked and len(described["blocks.norm"].axes) == 1
  assert not described["head"].stacked


def test_plain_adam_is_optax_adam():
  learning, updates = one_update(PLAIN)
  adam = optax.adam(0.1)
  expected = adam.update({path: jnp.ones_like(leaf) for path, leaf in learning.items()}, adam.init(learning))[0]
  for path, update in updates.items():
    np.testing.assert_allclose(update, expected[path], rtol=1e-6)


def test_decay_leaves_vectors_alone_also_in_a_stack():
  learning, updates = one_update(dataclasses.replace(PLAIN, weight_decay=0.5), gradient=0.0)
  np.testing.assert_allclose(updates["blocks.up"], -0.1 * 0.5 * learning["blocks.up"], rtol=1e-5)
  assert not np.any(updates["blocks.norm"])


def test_later_groups_override_earlier_ones_and_layers_pick_from_a_stack():
  groups = (Group("blocks", 0.0), Group(r"blocks\.up", 0.5, layers=(1, 3)), Group("head", 2.0))
  learning, updates = one_update(dataclasses.replace(PLAIN, groups=groups))
  assert set(learning) == {"blocks.up", "head", "tokens"}
  np.testing.assert_allclose(updates["blocks.up"][:, 0, 0], [0.0, -0.05, -0.05], rtol=1e-5)
  np.testing.assert_allclose(updates["head"], -0.2, rtol=1e-5)
  np.testing.assert_allclose(updates["tokens"], -0.1, rtol=1e-5)


def test_the_norm_of_frozen_layers_does_not_clip_the_others():
  frozen_layers = dataclasses.replace(PLAIN, clip_norm=1.0, groups=(Group(r"blocks\.norm", 0.0, layers=(0, 3)),))
  frozen_leaf = dataclasses.replace(PLAIN, clip_norm=1.0, groups=(Group(r"blocks\.norm", 0.0),))
  kept = [one_update(config)[1]["head"] for config in (frozen_layers, frozen_leaf)]
  np.testing.assert_array_equal(*kept)


def test_the_schedule_warms_up_and_falls_to_zero():
  config = dataclasses.replace(PLAIN, warmup_steps=4)
  schedule = make_optimizer(config, parameters=describe(make()), steps=20).schedule
  rates = [float(schedule(step)) for step in range(21)]
  np.testing.assert_allclose(rates[:5], [0, 0.025, 0.05, 0.075, 0.1], rtol=1e-6)
  assert all(early > late for early, late in itertools.pairwise(rates[4:])) and rates[20] < 1e-9
  constant = dataclasses.replace(config, schedule="constant")
  assert float(make_optimizer(constant, parameters=describe(make()), steps=20).schedule(19)) == pytest.approx(0.1)


def test_muon_makes_hidden_matrices_orthogonal_layer_by_layer_and_leaves_the_rest_to_adam():
  model = make()
  optimizer = make_optimizer(dataclasses.replace(PLAIN, algorithm="muon"), parameters=describe(model), steps=10)
  parameters = trees.flatten(model)
  keys = jax.random.split(jax.random.key(1), len(parameters))
  gradients = {
    path: jax.random.normal(key, leaf.shape) for key, (path, leaf) in zip(keys, parameters.items(), strict=True)
  }
  updates, _ = optimizer.transform.update(gradients, optimizer.transform.init(parameters), parameters)
  adam = optax.adam(0.1)
  expected = adam.update(gradients, adam.init(parameters))[0]
  for path in ("tokens", "head", "blocks.norm"):
    np.testing.assert_allclose(updates[path], expected[path], rtol=1e-5)
  for layer in range(3):
    singular = np.linalg.svd(updates["blocks.up"][layer], compute_uv=False)
    # Five Newton-Schulz steps bring singular values near 1, not to it (Jordan 2024); times rate 0.1, 0.2 and sqrt(32).
    assert np.all((singular / (0.1 * 0.2 * 32**0.5) > 0.4) & (singular / (0.1 * 0.2 * 32**0.5) < 1.4))


def test_muon_makes_every_expert_orthogonal_for_itself():
  experts = {"blocks.up": Parameter((2, 3, 8, 6), ("experts", "embed", "mlp"))}
  optimizer = make_optimizer(dataclasses.replace(PLAIN, algorithm="muon"), parameters=experts, steps=10)
  gradient = {"blocks.up": jax.random.normal(jax.random.key(1), (2, 3, 8, 6))}
  update = optimizer.transform.update(gradient, optimizer.transform.init(gradient), gradient)[0]["blocks.up"]
  singular = np.linalg.svd(update, compute_uv=False) / (0.1 * 0.2 * 8**0.5)  # [layer, expert, 6]
  assert singular.shape == (2, 3, 6) and np.all((singular > 0.4) & (singular < 1.4))


def one_gradient(config, parameters, gradients, *, values):
  optimizer = make_optimizer(config, parameters=parameters, steps=10)
  state = optimizer.transform.init(values)
  for _ in range(2):
    updates, state = optimizer.transform.update(gradients, state, values)
  return updates, state


def test_adafactor_is_optax_adafactor_layer_by_layer():
  config = dataclasses.replace(PLAIN, algorithm="adafactor", schedule="constant")
  shape = (130, 128)  # optax factors dimensions from 128 on
  gradients = {"stack": jax.random.normal(jax.random.key(0), (2, *shape)) * jnp.array([1e-3, 10.0])[:, None, None]}
  values = {"stack": jnp.ones((2, *shape))}
  stacked = {"stack": Parameter((2, *shape), ("embed", "mlp"))}
  updates, state = one_gradient(config, stacked, gradients, values=values)
  adafactor = optax.adafactor(0.1, multiply_by_parameter_scale=False, momentum=0.9)
  for layer in range(2):
    gradient, value = gradients["stack"][layer], values["stack"][layer]
    theirs = adafactor.init(value)
    for _ in range(2):
      expected, theirs = adafactor.update(gradient, theirs, value)
    np.testing.assert_allclose(updates["stack"][layer], expected, rtol=1e-5, atol=1e-8)
  rows = {path: leaf.shape for path, leaf in trees.flatten(state).items() if ".v_" in path}
  assert set(rows.values()) == {(2, 130), (2, 128)}
  without = dataclasses.replace(config, beta1=0.0)
  sizes = [leaf.size for leaf in jax.tree.leaves(one_gradient(without, stacked, gradients, values=values)[1])]
  assert sum(sizes) < 1000  # of 33,280 parameters


def test_factored_moments_are_split_as_their_parameters():
  axes = (jax.sharding.AxisType.Auto,) * 5
  mesh = jax.sharding.AbstractMesh((1, 4, 2, 1, 1), sharding.MESH_AXES, axis_types=axes)
  model = jax.eval_shape(lambda: ToyConfig(width=128, depth=3, vocab_size=24).make(key=jax.random.key(0)))
  optimizer = make_optimizer(dataclasses.replace(PLAIN, algorithm="adafactor"), parameters=describe(model), steps=10)
  moments = trees.flatten(abstract_state(model, optimizer, mesh).moments)
  found = {path.partition(".v_")[2]: leaf for path, leaf in moments.items() if ".v_" in path and "blocks" in path}
  # [3, 128, 256] over the longest dimension is [3, 128], over the next one [3, 256]; `down` is [3, 256, 128].
  assert found["row.blocks.up"].sharding.spec == jax.P(None, "fsdp")
  assert found["col.blocks.up"].sharding.spec == jax.P(None, "tensor")
  assert found["row.blocks.down"].sharding.spec == jax.P(None, "fsdp")
  assert found["col.blocks.down"].sharding.spec == jax.P(None, "tensor")
  assert found["row.blocks.norm"].shape == (1,) and not any(found["row.blocks.norm"].sharding.spec)


@pytest.mark.parametrize("algorithm", ["adamw", "muon", "adafactor"])
def test_first_moments_may_be_narrow(algorithm):
  model = make()
  config = dataclasses.replace(PLAIN, algorithm=algorithm, moment_dtype="bfloat16")
  optimizer = make_optimizer(config, parameters=describe(model), steps=10)
  learning = trees.flatten(model)
  state = optimizer.transform.init(learning)
  updates, after = optimizer.transform.update(learning, state, learning)
  assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
  moments = trees.flatten(after)
  narrow = {path for path, leaf in moments.items() if leaf.dtype == jnp.bfloat16}
  assert narrow == {path for path in moments if ".mu." in path or ".ema." in path} and narrow
  wide = make_optimizer(dataclasses.replace(config, moment_dtype="float32"), parameters=describe(model), steps=10)
  expected, _ = wide.transform.update(learning, wide.transform.init(learning), learning)
  for path, update in updates.items():
    np.testing.assert_allclose(update, expected[path], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_moments_live_where_their_parameters_live_and_frozen_ones_do_not_exist(algorithm):
  mesh = jax.sharding.AbstractMesh((1, 4, 2, 1, 1), sharding.MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 5)
  config = dataclasses.replace(PLAIN, algorithm=algorithm, groups=(Group("tokens", 0.0),))
  model = jax.eval_shape(make)
  optimizer = make_optimizer(config, parameters=describe(model), steps=10)
  state = abstract_state(model, optimizer, mesh)
  moments = trees.flatten(state.moments)
  assert not [path for path in moments if path.endswith("tokens")]
  for path, leaf in moments.items():
    owner = next((name for name in state.learning if path.endswith(f".{name}")), None)
    if owner:
      assert leaf.sharding == state.learning[owner].sharding
      assert "up" not in owner or leaf.sharding.spec == jax.P(None, "fsdp", "tensor")
  assert sum(".mu." in path for path in moments) == len(state.learning)


def test_a_created_state_has_the_values_of_the_model():
  mesh = sharding.make_mesh()
  model = jax.eval_shape(make)
  optimizer = make_optimizer(PLAIN, parameters=describe(model), steps=10)
  abstract = abstract_state(model, optimizer, mesh)
  taken = {"head": jax.device_put(jnp.zeros((16, 24)), abstract.learning["head"].sharding)}
  state = create(make, optimizer, abstract=abstract, loaded=taken)
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype), abstract
  )
  np.testing.assert_array_equal(state.learning["tokens"], make().tokens[...])
  assert not np.any(state.learning["head"]) and int(state.step) == 0


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"groups": (Group("visoin", 0.0),)}, "'visoin' matches no parameter"),
    ({"groups": (Group("head", 0.0, layers=(0, 1)),)}, "layers"),
    ({"groups": (Group("blocks", 0.0, layers=(2, 4)),)}, "layers"),
    ({"groups": (Group(".*", 0.0),)}, "every parameter is frozen"),
  ],
)
def test_groups_that_cannot_be_meant_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    make_optimizer(dataclasses.replace(PLAIN, **changes), parameters=describe(make()), steps=10)


def test_impossible_settings_are_refused():
  with pytest.raises(UserError, match="unknown schedule"):
    OptimizerConfig(learning_rate=0.1, schedule="linear")
  with pytest.raises(UserError, match="unknown algorithm"):
    OptimizerConfig(learning_rate=0.1, algorithm="sgd")
  with pytest.raises(UserError, match="unknown moment_dtype"):
    OptimizerConfig(learning_rate=0.1, moment_dtype="float16")
  with pytest.raises(UserError, match="learning_rate"):
    OptimizerConfig(learning_rate=0.0)
  with pytest.raises(UserError, match="orthogonal_steps"):
    OptimizerConfig(learning_rate=0.1, algorithm="muon", orthogonal_steps=0)
  with pytest.raises(UserError, match="scale -1"):
    Group("head", -1)


def test_a_cosine_rises_from_its_floor_and_falls_back_to_it():
  config = OptimizerConfig(learning_rate=1e-3, floor=4e-6, warmup_steps=10)
  schedule = make_optimizer(config, parameters=describe(jax.eval_shape(make)), steps=50).schedule
  assert float(schedule(0)) == pytest.approx(4e-6, rel=1e-3) and float(schedule(10)) == pytest.approx(1e-3)
  assert float(schedule(50)) == pytest.approx(4e-6, rel=1e-3)
  assert float(schedule(30)) == pytest.approx((1e-3 + 4e-6) / 2, rel=1e-3)
  with pytest.raises(UserError, match="not below floor"):
    OptimizerConfig(learning_rate=1e-3, floor=2e-3)


def test_rounding_at_random_is_right_on_average():
  value = jnp.array([1.0, 1.003, -0.3, 1e-12, jnp.inf])
  rounded = jax.vmap(lambda key: round_randomly(value, key))(jax.random.split(jax.random.key(0), 4000))
  assert rounded.dtype == jnp.bfloat16
  mean = rounded.astype(jnp.float32).mean(0)
  np.testing.assert_allclose(mean, value, rtol=3e-4)
  assert len(np.unique(np.asarray(rounded[:, 1], np.float32))) == 2 and float(mean[0]) == 1.0


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_second_moments_in_half_precision_follow_those_in_single(algorithm):
  """A gradient that falls silent: rounded to the nearest, the second moment would stay where it is."""
  moments = {}
  for dtype in ("float32", "bfloat16"):
    config = OptimizerConfig(learning_rate=1e-3, algorithm=algorithm, second_dtype=dtype)
    transform = make_optimizer(config, parameters={"table": Parameter((64,), ("embed",))}, steps=10).transform
    params = {"table": jnp.ones(64)}

    def step(state, scale, transform=transform, params=params):
      return transform.update({"table": jnp.full(64, scale)}, state, params)[1], None

    state, _ = jax.lax.scan(step, transform.init(params), jnp.where(jnp.arange(600) < 100, 1.0, 0.0))
    (moments[dtype],) = [leaf for path, leaf in trees.flatten(state).items() if ".nu." in path]
  assert moments["bfloat16"].dtype == jnp.bfloat16
  # The mean of 64 moments that each walked at random 600 steps.
  np.testing.assert_allclose(moments["bfloat16"].astype(jnp.float32).mean(), moments["float32"].mean(), rtol=0.02)


def test_second_moments_of_adafactor_stay_single():
  with pytest.raises(UserError, match="unknown second_dtype"):
    OptimizerConfig(learning_rate=1e-3, algorithm="adafactor", second_dtype="bfloat16")
