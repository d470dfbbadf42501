"""The state of a run: one value that goes into a step and comes out of it, created where it will live.

Parameters are flat dicts of dotted path -> array, split into those that learn and those that are frozen, so that
nothing is differentiated or remembered for a frozen tower. The random key of a step is derived from the run's seed and
the step, so it needs no place in the state.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from omni_jax.core import sharding, trees
from omni_jax.core.arrays import Array
from omni_jax.train.optimizer import Optimizer, Parameter


class TrainState(NamedTuple):
  """Everything a step changes."""

  learning: dict[str, Array]
  frozen: dict[str, Array]
  moments: Any  # the optimizer's state over `learning`
  step: Array  # number of finished steps, int32

  @property
  def parameters(self) -> dict[str, Array]:
    """All parameters by path."""
    return {**self.learning, **self.frozen}


def describe(model: Any) -> dict[str, Parameter]:
  """Returns shape and logical axes of every parameter of a (possibly abstract) model."""
  found = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))[0]
  described = {}
  for path, leaf in found:
    value, axes = (
      (leaf.get_value(), leaf.get_metadata().get("axes")) if isinstance(leaf, nnx.Variable) else (leaf, None)
    )
    described[trees.dotted(path)] = Parameter(tuple(value.shape), axes or (None,) * len(value.shape))
  return described


def kept_exact(model: Any) -> frozenset[str]:
  """Returns the paths of parameters that are never rounded to a narrower type (`exact=True` where they are made)."""
  found = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))[0]
  return frozenset(
    trees.dotted(path) for path, leaf in found if isinstance(leaf, nnx.Variable) and leaf.get_metadata().get("exact")
  )


def assemble(parameters: Mapping[str, Any], moments: Any, *, step: Any, optimizer: Optimizer) -> TrainState:
  """Returns the state with the parameters split by what the optimizer freezes."""
  return TrainState(
    learning={path: leaf for path, leaf in parameters.items() if path not in optimizer.frozen},
    frozen={path: leaf for path, leaf in parameters.items() if path in optimizer.frozen},
    moments=moments,
    step=step,
  )


def abstract_state(model: Any, optimizer: Optimizer, mesh: Mesh) -> TrainState:
  """Returns the state as shapes that carry their shardings; nothing is allocated.

  Moments live exactly where their parameter lives. This is stated because `jit(init)` alone replicates them: zeros do
  not depend on the parameters, so the compiler sees no reason to split them.
  """
  where = trees.flatten(sharding.shardings(model, mesh))
  parameters = {
    path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where[path])
    for path, leaf in trees.flatten(model).items()
  }
  whole = NamedSharding(mesh, PartitionSpec())
  state = assemble(parameters, None, step=jax.ShapeDtypeStruct((), jnp.int32, sharding=whole), optimizer=optimizer)

  def place(path: str, leaf: Any) -> jax.ShapeDtypeStruct:
    owners = [name for name in state.learning if path.endswith(f".{name}")]
    owner = state.learning[max(owners, key=len)] if owners else None
    found = whole if owner is None else _moment_sharding(path, leaf, owner) or whole
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=found)

  moments = trees.map_paths(place, jax.eval_shape(optimizer.transform.init, state.learning))
  return state._replace(moments=moments)


def _moment_sharding(path: str, leaf: Any, owner: Any) -> NamedSharding | None:
  """Returns the sharding of the moment of a parameter; None for a moment of another shape."""
  if leaf.shape == owner.shape:
    return owner.sharding
  # Adafactor's rows and columns: the mean over the longest dimension, and over the one after it.
  order = {".v_row.": -1, ".v_col.": -2}
  dropped = next((np.argsort(owner.shape)[place] for name, place in order.items() if name in path), None)
  if dropped is None or leaf.shape != tuple(np.delete(owner.shape, dropped)):
    return None
  entries = [*owner.sharding.spec, *(None,) * (len(owner.shape) - len(owner.sharding.spec))]
  return NamedSharding(owner.sharding.mesh, PartitionSpec(*entries[:dropped], *entries[dropped + 1 :]))


def create(make_model: Any, optimizer: Optimizer, *, abstract: TrainState, loaded: dict[str, Array]) -> TrainState:
  """Returns a fresh state, each array made inside jit where it will live.

  Args:
    make_model: () -> model, drawing its parameters.
    optimizer: from `make_optimizer`.
    abstract: from `abstract_state`.
    loaded: parameters that replace the drawn ones, by path.
  """
  shardings = {path: leaf.sharding for path, leaf in abstract.parameters.items()}
  parameters = jax.jit(lambda: trees.flatten(make_model()), out_shardings=shardings)() | loaded
  state = assemble(parameters, None, step=jnp.zeros((), jnp.int32), optimizer=optimizer)
  moments = jax.jit(optimizer.transform.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract.moments))(
    state.learning
  )
  return state._replace(moments=moments, step=jax.device_put(state.step, abstract.step.sharding))
