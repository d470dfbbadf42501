"""From logical axes to the machine: the mesh and the one table that maps parameters and batches onto it.

A parameter names the meaning of its axes (`embed`, `heads`, ...) where it is made (`nn.parameter`); only this file
knows mesh axes. Axes stay automatic (`AxisType.Auto`): the compiler places what no rule names.

    mesh axis   what it splits                               what travels
    replica     rows of a batch; a whole slice of a pod at    gradients, over the data-centre network where there are
                least, where there are several                several slices
    fsdp        rows, and every parameter and its moments     parameters of a layer as it is used, its gradient
    tensor      heads and inner widths, vocabulary            activations, twice a layer each way
    sequence    positions of a row                            keys and values of a layer
    expert      experts                                       tokens to their experts and back
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from omni_jax.core import trees
from omni_jax.core.errors import UserError

MESH_AXES = ("replica", "fsdp", "tensor", "sequence", "expert")

# logical axis -> mesh axes that split it, in order of preference; an axis that does not divide is left whole.
RULES: dict[str, tuple[str, ...]] = {
  "batch": ("replica", "fsdp"),
  "sequence": ("sequence",),
  "pieces": ("replica", "fsdp", "sequence"),  # rows cut where `sequence` cuts them
  "vocab": ("tensor",),
  "embed": ("fsdp",),
  "mlp": ("tensor",),
  "heads": ("tensor",),
  "kv_heads": ("tensor",),
  "experts": ("expert",),
}


def make_mesh(shape: str = "", *, devices: Sequence[Any] | None = None) -> Mesh:
  """Returns a mesh over all devices from text such as `fsdp=4,tensor=2`; what is not named has size one.

  An empty text puts every device of a slice on `fsdp`, and the slices on `replica`. Where devices lie in several slices
  (of a pod, joined by the data-centre network), `replica` runs over whole slices first.

  Args:
    shape: sizes of axes.
    devices: those of this run by default; for a plan, those of a topology.

  Raises:
    UserError: an unknown axis, sizes whose product is not the number of devices, or slices that `replica` does not
      divide into.
  """
  devices = jax.devices() if devices is None else list(devices)
  # Only on TPUs does an index mean the network between slices; elsewhere each host may have its own.
  slices = len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"}) or 1
  sizes = _sizes(shape or f"replica={slices},fsdp={len(devices) // slices}", text=shape)
  if math.prod(sizes.values()) != len(devices):
    raise UserError(
      f"sizes multiply to {math.prod(sizes.values())}",
      where=f"mesh {shape!r}",
      rule=f"the product equals the number of devices, {len(devices)}",
      remedy="change a size, or start with another number of devices",
    )
  if sizes["replica"] % slices:
    raise UserError(
      f"replica={sizes['replica']} over {slices} slices",
      where=f"mesh {shape!r}",
      rule="replica is a multiple of the number of slices: only gradients cross the network between them",
      remedy=f"for example replica={slices}, and the other sizes for one slice",
    )
  within = (sizes["replica"] // slices, *list(sizes.values())[1:])
  if slices == 1:
    arranged = mesh_utils.create_device_mesh(within, devices, allow_split_physical_axes=True)
  else:
    across = (slices, *(1,) * (len(MESH_AXES) - 1))
    arranged = mesh_utils.create_hybrid_device_mesh(within, across, devices, allow_split_physical_axes=True)
  return Mesh(arranged, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _sizes(shape: str, *, text: str) -> dict[str, int]:
  """Returns the size of every mesh axis; `text` is what the user wrote."""
  sizes: dict[str, int] = dict.fromkeys(MESH_AXES, 1)
  for part in shape.split(","):
    found = re.fullmatch(r"\s*(\w+)\s*=\s*(\d+)\s*", part)
    if not found or found[1] not in sizes or int(found[2]) < 1:
      raise UserError(
        f"cannot read {part!r}",
        where=f"mesh {text!r}",
        rule=f"a mesh is name=size,... with names among {', '.join(MESH_AXES)} and sizes from 1",
        remedy="for example fsdp=4,tensor=2",
      )
    sizes[found[1]] = int(found[2])
  return sizes


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


def parts_of(axis: str, mesh: Mesh | AbstractMesh | None) -> int:
  """Returns in how many parts the rules split a logical axis that all of them divide; 1 without a mesh."""
  return 1 if mesh is None else math.prod(mesh.shape[name] for name in RULES[axis])


def require_parts(axis: str, size: int, *, what: str) -> None:
  """Raises a UserError if the mesh that is set does not divide a logical axis of this size."""
  parts = parts_of(axis, current_mesh())
  if size % parts:
    raise UserError(
      f"{size} {what} over {parts} devices",
      where="mesh",
      rule=f"the mesh axes {', '.join(RULES[axis])} divide the number of {what}",
      remedy="change --mesh",
    )


def part_of_rows(mesh: Mesh, rows: int) -> tuple[int, int]:
  """Returns which part of a batch's rows the devices of this process hold: its number, and how many parts there are.

  Where they hold no single run of rows, or one that is no whole part, this is the whole batch: (0, 1).
  """
  indices = batch_sharding(mesh).addressable_devices_indices_map((rows,))
  runs = sorted({own[0].indices(rows)[:2] for own in indices.values() if own is not None})
  (first, _), (_, last) = runs[0], runs[-1]
  joined = all(end == start for (_, end), (start, _) in itertools.pairwise(runs))
  own = last - first
  return (first // own, rows // own) if joined and rows % own == 0 and first % own == 0 else (0, 1)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of every array of a batch: rows over `replica` and `fsdp`."""
  return NamedSharding(mesh, PartitionSpec(tuple(RULES["batch"])))
