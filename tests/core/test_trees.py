import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from omni_jax.core import trees
from omni_jax.core.errors import UserError


class Inner(nnx.Module):
  def __init__(self, value):
    self.weight = nnx.Param(jnp.full((2,), value))


class Outer(nnx.Module):
  def __init__(self):
    self.first = Inner(1.0)
    self.second = Inner(2.0)


def test_paths_are_attribute_names():
  assert trees.paths(Outer()) == ["first.weight", "second.weight"]
  assert trees.paths({"a": [1, 2]}) == ["a.0", "a.1"]


def test_flatten_and_unflatten_are_inverse():
  tree = Outer()
  back = trees.unflatten(tree, trees.flatten(tree))
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), tree, back))


def test_differing_names_are_listed_with_signs():
  with pytest.raises(UserError, match=r"(?s)- third.*\+ second.weight"):
    trees.unflatten(Outer(), {"first.weight": 0, "third": 0})


@pytest.mark.parametrize(
  "pattern,path,expected",
  [
    ("decoder", "decoder.norm", True),
    ("decoder", "decoders.norm", False),
    (r"vision\.blocks", "vision.blocks.a", True),
  ],
)
def test_patterns_match_whole_names(pattern, path, expected):
  assert trees.matches(pattern, path) is expected


def test_map_paths_and_count():
  doubled = trees.map_paths(lambda path, leaf: leaf * (2 if path.startswith("first") else 1), Outer())
  assert float(doubled.first.weight[...].sum()) == 4.0
  assert trees.count(Outer()) == 4
