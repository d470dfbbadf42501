import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.nn.linear import Linear
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.nn.norm import RMSNorm
from omni_jax.nn.parameter import table
from omni_jax.nn.stack import fold, stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallConfig:
  depth: int = 2

  def make(self, *, key):
    return Small(self, key=key)


class Block(nnx.Module):
  def __init__(self, *, key):
    up, down = jax.random.split(key)
    self.norm = RMSNorm(width=8, eps=1e-6)
    self.up = Linear(8, 12, axes=("embed", "mlp"), bias=True, key=up)
    self.down = Linear(12, 8, axes=("mlp", "embed"), bias=False, key=down)

  def __call__(self, x):
    return x + self.down(jax.nn.gelu(self.up(self.norm(x))))


class Small(nnx.Module):
  """Two stacked blocks and a matrix of its own."""

  def __init__(self, config, *, key):
    blocks, last, rows = jax.random.split(key, 3)
    self.config = config
    self.rows = table(rows, (5, 8), axes=("vocab", "embed"))
    self.blocks = stack(lambda key: Block(key=key), depth=config.depth, key=blocks)
    self.last = Linear(8, 8, axes=("embed", "mlp"), bias=False, key=last)

  def __call__(self, x):
    return self.last(fold(self.blocks, x))


X = jax.random.normal(jax.random.key(9), (2, 3, 8))


def make(key=0, **changes):
  fields = {"base": SmallConfig(), "targets": (r"blocks", r"last"), "rank": 3, "alpha": 6.0, "block": 4}
  return AdaptedConfig(**{**fields, **changes}).make(key=jax.random.key(key))


def trained(model, key=3):
  """The model with pairs that do something."""
  leaves = trees.flatten(model)
  keys = jax.random.split(jax.random.key(key), len(leaves))
  return trees.unflatten(
    model,
    {
      path: leaf + jax.random.normal(k, leaf.shape) if path.startswith("pairs.") else leaf
      for (path, leaf), k in zip(leaves.items(), keys, strict=True)
    },
  )


def by_hand(model, x):
  """What adapters do, layer by layer, in NumPy."""
  leaves = {path: np.asarray(leaf, np.float64) for path, leaf in trees.flatten(model).items()}

  def linear(x, path, layer=None):
    parts = [leaves[f"base.{path}"], leaves[f"pairs.{path}.down"], leaves[f"pairs.{path}.up"]]
    weight, down, up = parts if layer is None else [part[layer] for part in parts]
    return x @ weight + 6.0 / 3 * (x @ down @ up)

  x = np.asarray(x, np.float64)
  for layer in range(2):
    normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * leaves["base.blocks.norm.scale"][layer]
    inner = linear(normed, "blocks.up.weight", layer) + leaves["base.blocks.up.bias"][layer]
    x = x + linear(np.asarray(jax.nn.gelu(inner)), "blocks.down.weight", layer)
  return linear(x, "last.weight")


def test_new_adapters_change_nothing():
  model = make()
  np.testing.assert_array_equal(model(X), model.base(X))


def test_adapters_add_their_product():
  model = trained(make())
  np.testing.assert_allclose(model(X), by_hand(model, X), rtol=1e-4, atol=1e-4)
  assert np.abs(np.asarray(model(X) - model.base(X))).max() > 0.1


@pytest.mark.parametrize("bits", ["", "int8", "nf4"])
def test_merging_gives_the_same_model_without_adapters(bits):
  model = trained(make(bits=bits))
  merged = model.merged()
  assert type(merged) is Small and trees.paths(merged) == trees.paths(SmallConfig().make(key=jax.random.key(0)))
  np.testing.assert_allclose(merged(X), model(X), rtol=1e-4, atol=1e-4)


def test_only_matching_matrices_are_adapted():
  names = {path for path in trees.paths(make()) if path.startswith("pairs.")}
  matrices = ("blocks.up.weight", "blocks.down.weight", "last.weight")
  assert names == {f"pairs.{path}.{side}" for path in matrices for side in ("down", "up")}
  assert {path.split(".")[1] for path in trees.paths(make(targets=("last",))) if path.startswith("pairs.")} == {"last"}
  with pytest.raises(UserError, match="target 'nothing' matches no matrix"):
    make(targets=("last", "nothing"))
  with pytest.raises(UserError, match="target 'rows' matches no matrix"):
    make(targets=("rows",))  # a table of tokens


def test_pairs_start_as_peft_starts_them():
  pair = make(rank=64).pairs.last.weight
  assert np.abs(np.asarray(pair.down[...])).max() <= 8**-0.5 and np.asarray(pair.down[...]).std() > 0.9 * 24**-0.5
  assert not np.asarray(pair.up[...]).any() and pair.up.get_metadata()["axes"] == (None, "mlp")
  assert pair.down.get_metadata()["axes"] == ("embed", None)


def test_dropout_follows_its_key_and_keeps_the_mean():
  model = trained(make(dropout=0.5, targets=("last",)))
  x = jnp.ones((400, 4, 8))
  matrix = model.matrices(key=jax.random.key(1))["last.weight"]
  dropped, whole = x @ matrix, x @ model.matrices()["last.weight"]
  np.testing.assert_array_equal(dropped, x @ model.matrices(key=jax.random.key(1))["last.weight"])
  assert np.abs(np.asarray(dropped - x @ model.matrices(key=jax.random.key(2))["last.weight"])).max() > 0.1
  spread = np.asarray(dropped).std((0, 1)) / np.sqrt(1600)
  assert np.all(np.abs(np.asarray(dropped.mean((0, 1)) - whole[0, 0])) < 5 * spread)
  np.testing.assert_array_equal(model(X), model.joined()(X))


def test_layers_of_a_stack_drop_apart():
  matrix = make(dropout=0.5).matrices(key=jax.random.key(1))["blocks.up.weight"]
  assert matrix.key.shape == (2,) and matrix.key[0] != matrix.key[1]


def test_what_the_base_offers_is_read_and_nothing_else():
  model = make()
  assert model.config == SmallConfig() and model.last.weight[...].shape == (8, 8)
  with pytest.raises(AttributeError):
    _ = model.nothing


@pytest.mark.parametrize("bits", ["", "nf4"])
def test_a_base_of_another_stage_is_adopted(bits):
  config = make(bits=bits).adapters
  abstract = trees.flatten(jax.eval_shape(lambda: config.make(key=jax.random.key(0))))
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = {p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here) for p, leaf in abstract.items()}
  base = SmallConfig().make(key=jax.random.key(7))
  plain = trees.flatten(base)
  offered = config.offered(abstract)
  assert {path: leaf.shape for path, leaf in offered.items() if not path.startswith("pairs.")} == {
    path: leaf.shape for path, leaf in plain.items()
  }
  adopted = config.adopt(plain, abstract)
  assert set(adopted) == {path for path in abstract if not path.startswith("pairs.")}
  assert all(adopted[path].dtype == abstract[path].dtype for path in adopted)
  model = trees.unflatten(make(bits=bits), trees.flatten(make(bits=bits)) | adopted)
  np.testing.assert_allclose(model(X), base(X), atol=1e-6 if not bits else 1.5)
  np.testing.assert_array_equal(model.base.rows[...], base.rows[...])


def test_values_out_of_range_are_refused():
  for changes in ({"rank": 0}, {"dropout": 1.0}, {"bits": "int3"}):
    with pytest.raises(UserError, match="rank is at least 1"):
      make(**changes)


def test_the_config_is_stored_and_read_back():
  from omni_jax.core.config import from_json, to_json
  from omni_jax.models.projectors import ProjectorConfig

  config = AdaptedConfig(base=ProjectorConfig(inputs=4, outputs=6), targets=(".*",), rank=2, alpha=4.0, bits="int8")
  assert from_json(to_json(config)) == config
