"""What travels between devices in a step, read from the compiled program: kind, mesh axis, bytes, how often.

    %ag = bf16[4096,1024] all-gather(%x), replica_groups=[16,4]<=[64], dimensions={0}, use_global_device_ids=true

A collective inside the body of a loop counts as often as the loop runs (`plan.scheduled`). Who takes part is written
as lists of devices, as a shape cut into groups, or, by the TPU's compiler, as a mesh and the axes along which:

    replica_groups={{0,1},{2,3}}     replica_groups=[2,2]<=[4]     replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_1'}

The TPU's compiler writes a reduce-scatter as an all-reduce in a computation `all-reduce-scatter`.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from omni_jax.plan.scheduled import ScheduledProgram

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_BITS = {
  "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "f8e4m3fn": 8, "f8e5m2": 8, "s16": 16, "u16": 16, "bf16": 16,
  "f16": 16, "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
  """One collective of the program, perhaps inside loops."""

  kind: str
  axes: tuple[str, ...]  # of the mesh; nothing where groups follow none
  bytes: int  # of the larger of input and output, on one device, each time
  times: int
  members: int  # devices of a group

  @property
  def received(self) -> float:
    """Bytes that one device receives in a step, if nothing comes twice."""
    share = 1 - 1 / self.members
    twice = 2 if self.kind == "all-reduce" else 1  # sums come in, then parts of the result
    return self.bytes * self.times * (1 if self.kind == "collective-permute" else twice * share)


def read_collectives(program: ScheduledProgram, *, mesh: dict[str, int]) -> list[Collective]:
  """Returns every collective of a compiled program.

  Args:
    program: compiled for the mesh.
    mesh: size of each axis, in the order of the mesh.
  """
  found: list[Collective] = []
  for inside, line, times in program.lines():
    kind = _kind(line)
    if kind is not None:
      groups = _groups(line)
      members = len(groups[0]) if groups else math.prod(mesh.values())
      if kind == "collective-permute":
        members = 2  # a pair that sends and receives
      size = _bytes(line, kind, members=members)
      named = "reduce-scatter" if inside.startswith("all-reduce-scatter") else kind
      found.append(Collective(named, _axes(groups, mesh), size, times, members))
  return found


def _kind(line: str) -> str | None:
  """Returns the kind of a collective; of one in two halves only the first counts."""
  found = re.search(r"[\])}] ([a-z\-]+?)(-start)?\(", line.partition(" = ")[2])
  return found[1] if found and found[1] in KINDS else None


def _bytes(line: str, kind: str, *, members: int) -> int:
  """Returns the bytes of the larger of input and output; the text names outputs only, or both as one tuple."""
  result, _, operation = line.partition(" = ")[2].partition(f" {kind}")
  sizes = [_size(*array) for array in _ARRAY.findall(result)]
  if not operation.startswith("-start"):
    return sum(sizes) * (members if kind == "reduce-scatter" else 1)
  if kind == "all-gather":  # (inputs, outputs), the inputs a part of the outputs
    return sum(sizes) * members // (members + 1)
  if kind == "all-reduce":
    return sum(sizes)
  return max(sizes, default=0) * (members if kind == "reduce-scatter" and len(sizes) == 1 else 1)


def _size(kind: str, dimensions: str) -> int:
  if kind not in _BITS:
    return 0
  return math.prod(int(number) for number in dimensions.split(",") if number) * _BITS[kind] // 8


def _axes(groups: list[list[int]], mesh: dict[str, int]) -> tuple[str, ...]:
  """Returns the mesh axes along which the members of a group differ; without groups, all that have a size."""
  if not groups:
    return tuple(name for name, size in mesh.items() if size > 1)
  names, sizes = list(mesh), tuple(mesh.values())
  varying: set[str] = set()
  for group in groups:
    places = np.array(np.unravel_index(np.asarray(group), sizes))
    varying |= {names[axis] for axis in range(len(names)) if len(set(places[axis].tolist())) > 1}
  return tuple(name for name in names if name in varying)


def _groups(line: str) -> list[list[int]]:
  iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
  if iota:
    shape, reshaped = ([int(number) for number in iota[place].split(",")] for place in (1, 2))
    ids = np.arange(math.prod(reshaped)).reshape(reshaped)
    if iota[3]:
      ids = ids.transpose([int(number) for number in iota[3].split(",")])
    return ids.reshape(shape[0], -1).tolist()
  listed = re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}", line)
  if listed:
    return [[int(number) for number in group.split(",")] for group in re.findall(r"\{([\d, ]+)\}", listed[1])]
  named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line)
  return _named_groups(named[1], named[2]) if named else []


def _named_groups(mesh: str, axes: str) -> list[list[int]]:
  """Returns the groups along some axes of a mesh: `'a'=2,'b'=8` and `'b'`, or `'b':(2)4`, the middle of 2 x 4 x 1."""
  sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
  chosen = {
    name: (int(before or 1), int(size or sizes[name]))
    for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", axes)
  }
  shape, along = [], []
  for name, size in sizes.items():
    before, own = chosen.get(name, (1, 1))
    along += [len(shape) + 1]
    shape += [before, own, size // (before * own)]
  ids = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), along, range(-len(along), 0))
  return ids.reshape(-1, math.prod(shape[axis] for axis in along)).tolist()
