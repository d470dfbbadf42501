"""What travels between devices in a step, read from the compiled program: kind, mesh axis, bytes, how often.

The compiler's text has one computation after another. A collective inside the body of a loop counts as often as the
loop runs, which the compiler writes beside it:

    %while.5 = ... while(...), condition=%c, body=%b, backend_config={"known_trip_count":{"n":"32"}}
    %ag = bf16[4096,1024] all-gather(%x), replica_groups=[16,4]<=[64], dimensions={0}, use_global_device_ids=true
"""

import collections
import math
import re
from typing import NamedTuple

import numpy as np

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_BITS = {
  "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "f8e4m3fn": 8, "f8e5m2": 8, "s16": 16, "u16": 16, "bf16": 16,
  "f16": 16, "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64,
}  # fmt: skip
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CALL = re.compile(r"(?:calls|to_apply|body|branch_computations|called_computations)=\{?(%?[\w.\-]+(?:, ?%?[\w.\-]+)*)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
  """One collective of the program, perhaps inside loops."""

  kind: str
  axes: tuple[str, ...]  # of the mesh; nothing where groups follow none
  bytes: int  # of the larger of input and output, on one device, each time
  times: int


def read_collectives(text: str, *, mesh: dict[str, int]) -> list[Collective]:
  """Returns every collective of a compiled program.

  Args:
    text: from `Compiled.as_text()` or a dump.
    mesh: size of each axis, in the order of the mesh.
  """
  bodies, entry = _computations(text)
  found: list[Collective] = []

  def walk(name: str, times: int) -> None:
    for line in bodies.get(name, ()):
      kind = _kind(line)
      if kind is not None:
        groups = _groups(line)
        members = len(groups[0]) if groups else math.prod(mesh.values())
        found.append(Collective(kind, _axes(groups, mesh), _bytes(line, kind, members=members), times))
        continue
      trips = _TRIPS.search(line)
      for names in _CALL.findall(line):
        for inner in re.split(r", ?", names):
          walk(inner.lstrip("%"), times * (int(trips[1]) if trips and " while(" in line else 1))

  walk(entry, 1)
  return found


def total_bytes(found: list[Collective]) -> dict[tuple[str, tuple[str, ...]], int]:
  """Returns the bytes of a step on one device, by kind and axes, most first."""
  totals: dict[tuple[str, tuple[str, ...]], int] = collections.defaultdict(int)
  for one in found:
    totals[one.kind, one.axes] += one.bytes * one.times
  return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  bodies: dict[str, list[str]] = {}
  entry = name = ""
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head:
      name = head[2]
      bodies[name] = []
      entry = name if head[1] else entry
    elif name and _OPERATION.match(line):
      bodies[name].append(line)
  return bodies, entry


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
  return []
