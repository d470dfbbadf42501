"""From logical axes to the machine: the mesh and the one table that maps parameters and batches onto it.

A parameter names the meaning of its axes (`embed`, `heads`, ...) where it is made (`nn.parameter`); only this file
knows mesh axes. Axes stay automatic (`AxisType.Auto`): the compiler places what no rule names.
"""

import math
import re
from typing import Any

import jax
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from omni_jax.core import trees
from omni_jax.core.errors import UserError

MESH_AXES = ("replica", "fsdp", "tensor", "sequence", "expert")

# logical axis -> mesh axes that split it, in order of preference; an axis that does not divide is left whole.
RULES: dict[str, tuple[str, ...]] = {
  "batch": ("replica", "fsdp"),
  "sequence": ("sequence",),
  "vocab": ("tensor",),
  "embed": ("fsdp",),
  "mlp": ("tensor",),
  "heads": ("tensor",),
  "kv_heads": ("tensor",),
  "experts": ("expert",),
}


def make_mesh(shape: str = "") -> Mesh:
  """Returns a mesh over all devices from text such as `fsdp=4,tensor=2`; what is not named has size one.

  An empty text puts every device on `fsdp`.

  Raises:
    UserError: an unknown axis, or sizes whose product is not the number of devices.
  """
  num_devices = jax.device_count()
  sizes: dict[str, int] = dict.fromkeys(MESH_AXES, 1)
  for part in shape.split(",") if shape else [f"fsdp={num_devices}"]:
    found = re.fullmatch(r"\s*(\w+)\s*=\s*(\d+)\s*", part)
    if not found or found[1] not in sizes:
      raise UserError(
        f"cannot read {part!r}",
        where=f"mesh {shape!r}",
        rule=f"a mesh is name=size,... with names among {', '.join(MESH_AXES)}",
        remedy="for example fsdp=4,tensor=2",
      )
    sizes[found[1]] = int(found[2])
  if math.prod(sizes.values()) != num_devices:
    raise UserError(
      f"sizes multiply to {math.prod(sizes.values())}",
      where=f"mesh {shape!r}",
      rule=f"the product equals the number of devices, {num_devices}",
      remedy="change a size, or start with another number of devices",
    )
  return jax.make_mesh(tuple(sizes.values()), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def spec(axes: tuple[str | None, ...], shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
  """Returns the partition of one array from its logical axes; a leading axis without a name is a stack of layers.

  A mesh axis is used once for an array, and only where it divides the dimension.
  """
  if len(axes) == len(shape) - 1:
    axes = (None, *axes)
  assert len(axes) == len(shape), f"axes {axes} do not name the dimensions of shape {shape}"
  used: set[str] = set()
  entries: list[Any] = []
  for axis, size in zip(axes, shape, strict=True):
    chosen: list[str] = []
    for name in RULES.get(axis, ()) if axis else ():
      split = math.prod(mesh.shape[other] for other in (*chosen, name))
      if name not in used and mesh.shape[name] > 1 and size % split == 0:
        chosen.append(name)
    used.update(chosen)
    entries.append(tuple(chosen) if len(chosen) > 1 else chosen[0] if chosen else None)
  return PartitionSpec(*entries)


def shardings(tree: Any, mesh: Mesh) -> Any:
  """Returns the tree of NamedShardings of a (possibly abstract) module; arrays that name no axes are replicated."""

  def of(leaf: Any) -> Any:
    if isinstance(leaf, nnx.Variable):
      axes = leaf.get_metadata().get("axes")
      partition = spec(axes, leaf.get_value().shape, mesh) if axes else PartitionSpec()
      return leaf.replace(NamedSharding(mesh, partition))
    return NamedSharding(mesh, PartitionSpec())

  return jax.tree.map(of, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def places(tree: Any, mesh: Mesh | None = None) -> dict[str, Sharding]:
  """Returns where each array of an (abstract) module lives, by dotted path: over the mesh, or on the first device."""
  if mesh is not None:
    return trees.flatten(shardings(tree, mesh))
  return dict.fromkeys(trees.flatten(tree), SingleDeviceSharding(jax.devices()[0]))


def current_mesh() -> Any:
  """Returns the (abstract) mesh that is set while a function is traced, None without one or with one device."""
  mesh = jax.sharding.get_abstract_mesh()
  return None if mesh.empty or mesh.size == 1 else mesh


def current_platform() -> str:
  """Returns `cpu`, `gpu` or `tpu`: where what is traced now will run, by the mesh that is set or by default.

  A mesh of described devices (a pod's topology) counts too, so that a program can be planned away from its machine.
  """
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  platform = jax.default_backend() if device is None else device.platform
  return "gpu" if platform in ("cuda", "rocm") else platform


def constrain(x: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
  """Returns `x` split as its logical axes say over the mesh that is set; without a mesh, `x` itself."""
  mesh = current_mesh()
  return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(axes, x.shape, mesh)))


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of every array of a batch: rows over `replica` and `fsdp`."""
  return NamedSharding(mesh, PartitionSpec(tuple(RULES["batch"])))
