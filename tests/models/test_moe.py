import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.models.moe import Experts, ExpertsConfig, assign, balance
from tests.devices import environment

KEY = jax.random.key(0)
CODE = """
import jax, jax.numpy as jnp, numpy as np
from omni_jax.core.sharding import make_mesh, shardings, batch_sharding
from tests.models.test_moe import make, random
x, real = random(2, 4, 6, 8), jnp.ones((4, 6), bool)
for factor in (None, 1.0):
  layer = make(num_experts=4, capacity_factor=factor)
  def loss(layer, x):
    y, balance = layer(x, real)
    return (y ** 2).sum() + balance
  alone = jax.value_and_grad(loss)(layer, x)
  mesh = make_mesh("fsdp=2,expert=4")
  with jax.set_mesh(mesh):
    split = jax.device_put(layer, shardings(layer, mesh))
    assert split.gate[...].sharding.shard_shape((4, 8, 5)) == (1, 4, 5), split.gate[...].sharding
    step = jax.jit(jax.value_and_grad(loss))
    together = step(split, jax.device_put(x, batch_sharding(mesh)))
    text = step.lower(split, jax.device_put(x, batch_sharding(mesh))).compile().as_text()
  for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
  gathered = any("all-gather" in line and "f32[4,8,5]" in line.split("all-gather")[0] for line in text.splitlines())
  print("experts gathered whole:", factor, gathered)
"""


def make(**changes):
  fields = {"num_experts": 5, "num_chosen": 2, "num_shared": 1, "mlp_dim": 5, "balance_weight": 0.01, **changes}
  return Experts(ExpertsConfig(**fields), width=8, key=KEY)


def random(index, *shape):
  return jax.random.normal(jax.random.key(index), shape)


def token_by_token(layer, x):
  """Returns the definition: for each token the shared network and its best experts, weighed by their scores."""
  out = np.zeros(x.shape, np.float32)
  for place in np.ndindex(*x.shape[:2]):
    scores = jax.nn.softmax(x[place] @ layer.router.weight[...])
    for expert in np.argsort(-scores)[: layer.config.num_chosen]:
      inner = jax.nn.silu(x[place] @ layer.gate[...][expert]) * (x[place] @ layer.up[...][expert])
      out[place] += scores[expert] * (inner @ layer.down[...][expert])
  return out + layer.shared(x)


@pytest.mark.parametrize("capacity_factor", [None, 2.5])
def test_both_ways_equal_the_definition(capacity_factor):
  layer, x = make(capacity_factor=capacity_factor), random(1, 2, 4, 8)
  found, _ = layer(x, jnp.ones((2, 4), bool))
  np.testing.assert_allclose(found, token_by_token(layer, x), atol=1e-5)


def test_both_ways_have_the_same_gradient():
  x, real = random(1, 2, 6, 8), jnp.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], bool)

  def loss(layer, x):
    y, balance = layer(x, real)
    return ((y * real[..., None]) ** 2).sum() + balance

  gradients = [jax.jit(jax.grad(loss, argnums=(0, 1)))(make(capacity_factor=factor), x) for factor in (None, 2.5)]
  for dropless, placed in zip(*map(jax.tree.leaves, gradients), strict=True):
    np.testing.assert_allclose(dropless, placed, atol=1e-5)


def test_places_are_given_in_order_and_padding_takes_none():
  chosen = jnp.array([[[0, 1], [1, 0], [1, 2], [1, 0]]])
  real = jnp.array([[True, False, True, True]])
  slots, taken = assign(chosen, real, num_experts=3, places=1)
  np.testing.assert_array_equal(taken[0], [[True, True], [False, False], [False, True], [False, False]])
  np.testing.assert_array_equal(slots[0], [[0, 1], [3, 3], [3, 2], [3, 3]])


def test_a_token_without_a_place_keeps_the_shared_experts():
  layer = make(num_experts=2, num_chosen=1, capacity_factor=0.5)
  x = jnp.tile(random(1, 1, 1, 8), (1, 4, 1))  # all choose the same expert, which has one place
  found, _ = layer(x, jnp.ones((1, 4), bool))
  np.testing.assert_allclose(found[:, 1:], layer.shared(x)[:, 1:], atol=1e-6)
  assert not np.allclose(found[:, 0], layer.shared(x)[:, 0], atol=1e-4)


def test_a_single_new_token_always_finds_its_experts():
  layer = make(capacity_factor=1.0)
  x = random(1, 3, 1, 8)
  np.testing.assert_allclose(layer(x, jnp.ones((3, 1), bool))[0], token_by_token(layer, x), atol=1e-5)


def test_balance_equals_the_reference_and_ignores_padding():
  """Against `MoEGate` of EMOVA's modeling_deepseek.py with seq_aux, written anew in torch."""
  torch = pytest.importorskip("torch")
  scores = jax.nn.softmax(random(1, 3, 7, 5), axis=-1)
  chosen = jax.lax.top_k(scores, 2)[1]
  theirs, picks = torch.from_numpy(np.array(scores)), torch.from_numpy(np.array(chosen)).long()
  counts = torch.stack([torch.bincount(row.reshape(-1), minlength=5) for row in picks]).float()
  expected = (counts / (7 * 2 / 5) * theirs.mean(dim=1)).sum(dim=1).mean()
  np.testing.assert_allclose(balance(scores, chosen, jnp.ones((3, 7), bool)), expected, rtol=1e-6)
  filled = jnp.pad(scores, ((0, 1), (0, 2), (0, 0))), jnp.pad(chosen, ((0, 1), (0, 2), (0, 0)))
  real = jnp.pad(jnp.ones((3, 7), bool), ((0, 1), (0, 2)))
  np.testing.assert_allclose(balance(*filled, real), expected, rtol=1e-6)


def test_even_choices_and_scores_have_balance_one():
  chosen = jnp.array([[[0, 1], [2, 3], [1, 2], [3, 0]]])
  np.testing.assert_allclose(balance(jnp.full((1, 4, 4), 0.25), chosen, jnp.ones((1, 4), bool)), 1.0)


def test_eight_devices_equal_one_and_capacity_keeps_experts_where_they_are():
  root = Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, "-c", CODE], env=environment(8), cwd=root, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert "experts gathered whole: 1.0 False" in done.stdout


@pytest.mark.parametrize(
  ("changes", "message"),
  [({"num_chosen": 6}, "6 of 5 experts"), ({"num_shared": 0}, "shared"), ({"capacity_factor": 0.0}, "capacity_factor")],
)
def test_impossible_experts_are_refused(changes, message):
  with pytest.raises(AssertionError, match=message):
    make(**changes)
