"""Low-rank adapters (Hu et al., arXiv 2106.09685) on any model, without a change to its code.

    y = x W + alpha / rank * dropout(x) down up

`AdaptedConfig(base=...)` makes the base model with a pair (down, up) beside each matrix that it adapts. Used, the model
is its base with an `AdaptedMatrix` in the place of each such matrix, which a layer multiplies with as with an array, so
that W's gradient is never computed and a W in few bits (`nn.quantise`) is unfolded one layer at a time. Layers that do
more with a matrix than `x @ matrix` (embedding tables, experts) are not adapted; PEFT adapts linear layers too.

Parameters by path: `base.<path of the base>`, `pairs.<path>.down`, `pairs.<path>.up`; where the base is in few bits,
`codes.<path>.values` and `.scales` stand for `base.<path>`. As in PEFT, `down` starts uniform and `up` at zero, so that
training starts from the base.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core import trees
from omni_jax.core.arrays import Array, Key
from omni_jax.core.errors import UserError
from omni_jax.nn.quantise import KINDS, Quantised, quantise


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptedConfig:
  """A base model and the adapters on it.

  Attributes:
    base: config of the base, with make(*, key).
    targets: regular expressions over whole paths or whole leading parts of them; of the parameters that match, the
      matrices are adapted: `decoder\\.blocks` for every linear layer of the language model.
    rank: inner width of a pair.
    alpha: the pair's product counts alpha / rank times.
    dropout: share of a pair's inputs set to zero in training (`train.losses.Dropping`).
    bits: the adapted matrices of the base as `int8` or `nf4`; empty: as they are.
    block: inputs that share a scale.
  """

  base: Any
  targets: tuple[str, ...]
  rank: int
  alpha: float
  dropout: float = 0.0
  bits: str = ""
  block: int = 64

  def __post_init__(self):
    if self.rank < 1 or not 0 <= self.dropout < 1 or self.bits not in ("", *KINDS):
      raise UserError(
        f"rank {self.rank}, dropout {self.dropout}, bits {self.bits!r}",
        where="adapters",
        rule=f"rank is at least 1, dropout at least 0 and below 1, bits empty or one of {', '.join(KINDS)}",
        remedy="change the one out of range",
      )

  def make(self, *, key: Key) -> "Adapted":
    """Returns a base with random weights and adapters that do nothing yet."""
    return Adapted(self, key=key)

  def offered(self, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what another stage may give: the base's own paths, in full precision, and pairs.

    Args:
      abstract: path -> shape with sharding, of the adapted model.
    """
    plain = {}
    for path, leaf in abstract.items():
      if path.startswith("codes."):
        if path.endswith(".values"):
          shape = Quantised(leaf, leaf).shape
          plain[_middle(path)] = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=leaf.sharding)
      else:
        plain[path.removeprefix("base.")] = leaf
    return plain

  def adopt(self, given: Mapping[str, Array], abstract: Mapping[str, Any]) -> dict[str, Array]:
    """Returns parameters of this model from what another stage gave; matrices are put into few bits here.

    Args:
      given: by paths that `offered` names.
      abstract: path -> shape with sharding, of the adapted model.
    """
    adopted = {}
    for path, array in given.items():
      if path in abstract:  # a pair
        adopted[path] = array
      elif f"base.{path}" in abstract:
        adopted[f"base.{path}"] = array
      else:
        small = quantise(array, kind=self.bits, block=self.block)
        adopted |= {f"codes.{path}.values": small.values, f"codes.{path}.scales": small.scales}
    return {path: jax.device_put(array, abstract[path].sharding) for path, array in adopted.items()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptedMatrix:
  """A matrix and its pair, to be multiplied with from the left: `x @ matrix`."""

  base: Array | Quantised  # [inputs, outputs]
  down: Array  # [inputs, rank]
  up: Array  # [rank, outputs]
  key: Key | None  # of dropout; None leaves everything in
  scale: float = dataclasses.field(metadata={"static": True})
  dropout: float = dataclasses.field(metadata={"static": True})

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the matrix."""
    return self.base.shape

  def __getitem__(self, index: Any) -> "AdaptedMatrix":
    """Returns itself: parameters are read with `[...]`."""
    assert index is Ellipsis, f"an adapted matrix has no part {index}"
    return self

  def __rmatmul__(self, x: Array) -> Array:
    """Returns `x @ W` and what the pair adds."""
    base = self.base.dequantise(x.dtype) if isinstance(self.base, Quantised) else self.base
    kept = x
    if self.key is not None and self.dropout:
      kept = jnp.where(jax.random.bernoulli(self.key, 1 - self.dropout, x.shape), x / (1 - self.dropout), 0)
    return x @ base + self.scale * ((kept @ self.down) @ self.up)

  def merge(self) -> Array:
    """Returns the one matrix that does the same (without dropout), in the dtype of the base."""
    base = self.base.dequantise() if isinstance(self.base, Quantised) else self.base
    added = self.scale * (self.down.astype(jnp.float32) @ self.up.astype(jnp.float32))
    return (base.astype(jnp.float32) + added).astype(base.dtype)


class Branch(nnx.Module):
  """A place in a tree of parameters."""


class Adapted(nnx.Module):
  """A base model with adapters; whatever it lacks itself, it has from its base, adapted."""

  def __init__(self, config: AdaptedConfig, *, key: Key):
    base_key, pair_key = jax.random.split(key)
    base = config.base.make(key=base_key)
    self.adapters = config
    self.pairs, self.codes = Branch(), Branch() if config.bits else None
    chosen = _targets(config, base)
    removed: dict[str, Any] = {}
    for (path, parameter), pair in zip(chosen.items(), jax.random.split(pair_key, len(chosen)), strict=True):
      inputs, outputs = parameter.get_metadata()["axes"]
      weight = parameter.get_value()
      *stack, rows, columns = weight.shape
      bound = rows**-0.5  # PEFT: kaiming_uniform of a = sqrt(5)
      down = jax.random.uniform(pair, (*stack, rows, config.rank), minval=-bound, maxval=bound)
      place = _place(self.pairs, path)
      place.down = nnx.Param(down, axes=(inputs, None))
      place.up = nnx.Param(jnp.zeros((*stack, config.rank, columns)), axes=(None, outputs))
      if self.codes is not None:
        small = quantise(weight, kind=config.bits, block=config.block)
        place = _place(self.codes, path)
        place.values = nnx.Param(small.values, axes=(inputs, outputs))
        place.scales = nnx.Param(small.scales, axes=(None, outputs), exact=True)
        removed[path] = None
    self.base = _replaced(base, removed)

  def __call__(self, *arguments: Any, **named: Any) -> Any:
    """Returns what the adapted base returns."""
    return self.joined()(*arguments, **named)

  def __getattr__(self, name: str) -> Any:
    if name.startswith("_") or "base" not in self.__dict__:
      raise AttributeError(name)
    return getattr(self.joined(), name)

  def joined(self, *, key: Key | None = None) -> Any:
    """Returns the base with its adapters in place; nothing is computed before it is used.

    Args:
      key: of dropout; None leaves everything in.
    """
    matrices = self.matrices(key=key)
    return _replaced(self.base, {path: nnx.Param(matrix) for path, matrix in matrices.items()})

  def silenced(self) -> "Adapted":
    """Returns the same parameters with adapters that add nothing: the base, as it was before they learned."""
    plain = jax.tree.map(lambda leaf: leaf, self)
    plain.adapters = dataclasses.replace(self.adapters, alpha=0.0)
    return plain

  def merged(self) -> Any:
    """Returns the base with each adapted matrix as one array, in full precision if it was in few bits."""
    arrays = {path: nnx.Param(matrix.merge()) for path, matrix in self.matrices().items()}
    return _replaced(self.base, arrays)

  def matrices(self, *, key: Key | None = None) -> dict[str, AdaptedMatrix]:
    """Returns path in the base -> matrix with its pair, stacks of layers as one."""
    leaves = trees.flatten({"base": self.base, "pairs": self.pairs, "codes": self.codes})
    paths = [_middle(path) for path in leaves if path.startswith("pairs.") and path.endswith(".down")]
    matrices = {}
    for number, path in enumerate(paths):
      down = leaves[f"pairs.{path}.down"]
      codes = f"codes.{path}.values"
      small = codes in leaves
      base = Quantised(leaves[codes], leaves[f"codes.{path}.scales"]) if small else leaves[f"base.{path}"]
      own = None if key is None else _stacked_key(jax.random.fold_in(key, number), down.shape[:-2])
      scale = self.adapters.alpha / self.adapters.rank
      matrices[path] = AdaptedMatrix(base, down, leaves[f"pairs.{path}.up"], own, scale, self.adapters.dropout)
    return matrices


def _targets(config: AdaptedConfig, base: Any) -> dict[str, nnx.Variable]:
  """Returns path -> parameter of each matrix to adapt."""
  leaves = jax.tree_util.tree_flatten_with_path(base, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))[0]
  matrices = {trees.dotted(path): leaf for path, leaf in leaves if _is_matrix(leaf)}
  found = {}
  for pattern in config.targets:
    matching = {path: leaf for path, leaf in matrices.items() if trees.matches(pattern, path)}
    if not matching:
      raise UserError(
        f"target {pattern!r} matches no matrix",
        where="adapters.targets",
        rule=f"a pattern matches a path or a leading part of one: {', '.join(sorted(matrices)[:8])}, ...",
        remedy="correct the pattern or remove it",
      )
    found |= matching
  return {path: leaf for path, leaf in matrices.items() if path in found}


def _is_matrix(leaf: Any) -> bool:
  axes = (leaf.get_metadata().get("axes") or ()) if isinstance(leaf, nnx.Variable) else ()
  return len(axes) == 2 and "vocab" not in axes


def _replaced(model: Any, new: Mapping[str, Any]) -> Any:
  """Returns a copy of `model` with other values in these places, which may be empty."""

  def is_leaf(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, nnx.Variable)

  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: new.get(trees.dotted(path), leaf) if is_leaf(leaf) else leaf, model, is_leaf=is_leaf
  )


def _place(tree: Branch, path: str) -> Any:
  """Returns the branch at a path, made if need be."""
  for name in path.split("."):
    if not hasattr(tree, name):
      setattr(tree, name, Branch())
    tree = getattr(tree, name)
  return tree


def _middle(path: str) -> str:
  """Returns `<path>` of `pairs.<path>.down`."""
  return path.partition(".")[2].rpartition(".")[0]


def _stacked_key(key: Key, stack: tuple[int, ...]) -> Key:
  return jax.random.split(key, stack) if stack else key
