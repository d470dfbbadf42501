"""A plan: what one step of a run needs on each device, as numbers, as a table, as JSON.

How long a step takes is told from both ends, and nothing of it was measured:

    computing   cycles that the compiler expects of what it scheduled, loops times their rounds; it expects nothing of
                kernels, so attention computed by one takes its products at the peak
    travelling  bytes that a device receives, at the rate of all its links together
    a step      the longer of the two if they overlap wholly, their sum if they do not

The share of the peak that is used (MFU) is useful products (`train.products`) over what all devices could do by then.
"""

import dataclasses
import json
import math
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from omni_jax.core.topologies import Topology
from omni_jax.plan.collectives import Collective, read_collectives
from omni_jax.plan.half import compile_half
from omni_jax.plan.memory import Memory
from omni_jax.plan.program import batch_shapes, compile_program, trace_step
from omni_jax.plan.scheduled import KERNEL, ScheduledProgram
from omni_jax.train.loop import Run
from omni_jax.train.utilisation import all_operations, useful_operations

_GIB = 2**30
_LARGEST = 12  # buffers alive at the peak that are kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Travel:
  """Bytes that one device sends and receives in a step by one kind of collective along some axes.

  Attributes:
    kind: of the collective.
    axes: of the mesh.
    gib: of the larger of input and output.
    times: how many of them a step has.
    seconds: at the rate of the links; 0 between slices, whose network has no known rate.
  """

  kind: str
  axes: tuple[str, ...]
  gib: float
  times: int
  seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What a step needs; memory and travel on each device.

  Attributes:
    run: name of the stage.
    machine: the topology.
    devices: of it.
    mesh: size of each axis.
    parameters: of the model.
    tokens: places of a batch.
    weights_gib: of the parameters.
    moments_gib: of the optimizer.
    arguments_gib: of both, and the batch.
    temporaries_gib: of gradients, activations and whatever else comes and goes.
    peak_gib: at once.
    memory_gib: that a device has.
    host_gib: that is kept in the memory of the host.
    petaflops: of a step on all devices, by the rule of `train.products`, without what is computed twice.
    attention_share: of these.
    computed_twice: products that are computed again in the backward pass, as a share of these.
    least_seconds: of a step, at the peak of the devices.
    cycles: that the compiler expects of a step, without kernels and collectives; 0 if it says nothing.
    compute_seconds: of these cycles and of the kernels; `least_seconds` without cycles.
    travel: what is sent and received.
    unread_loops: loops that could not be read, whose collectives and cycles count once.
    steps: of the run.
    chips: of the machine.
    compile_seconds: of processor time.
    memory: what is alive when, None if the compiler did not say.
  """

  run: str
  machine: str
  devices: int
  mesh: dict[str, int]
  parameters: int
  tokens: int
  weights_gib: float
  moments_gib: float
  arguments_gib: float
  temporaries_gib: float
  peak_gib: float
  memory_gib: float
  host_gib: float
  petaflops: float
  attention_share: float
  computed_twice: float
  least_seconds: float
  cycles: int
  compute_seconds: float
  travel: tuple[Travel, ...]
  unread_loops: int
  steps: int
  chips: int
  compile_seconds: float
  memory: Memory | None

  @property
  def room_gib(self) -> float:
    """What stays free on a device at the peak."""
    return self.memory_gib - self.peak_gib

  @property
  def travel_seconds(self) -> float:
    """Of a step, for everything that travels, one after another."""
    return sum(one.seconds for one in self.travel)

  @property
  def seconds(self) -> tuple[float, float]:
    """Of a step, if computing and travelling overlap wholly, and if they do not."""
    return max(self.compute_seconds, self.travel_seconds), self.compute_seconds + self.travel_seconds

  @property
  def used_share(self) -> tuple[float, float]:
    """Of the peak of all devices, by useful products (MFU), for both `seconds`."""
    least = self.least_seconds / (1 + self.computed_twice)  # without what is computed twice
    return least / self.seconds[0], least / self.seconds[1]

  @property
  def chip_hours(self) -> tuple[float, float]:
    """Of the whole run, for both `seconds`."""
    short, long = (self.steps * self.chips * seconds / 3600 for seconds in self.seconds)
    return short, long

  def to_json(self) -> str:
    """Returns every number, and of memory the largest buffers that are alive at the peak."""
    names = ("room_gib", "travel_seconds", "seconds", "used_share", "chip_hours")
    numbers = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "memory"}
    numbers["travel"] = [dataclasses.asdict(one) for one in self.travel]
    largest = [] if self.memory is None else self.memory.at(self.memory.peak)[:_LARGEST]
    numbers["largest"] = [buffer._asdict() for buffer in largest]
    return json.dumps(numbers | {name: getattr(self, name) for name in names}, indent=1)

  def table(self) -> str:
    """Returns the plan for a terminal."""
    axes = ", ".join(f"{name}={size}" for name, size in self.mesh.items() if size > 1) or "one device"
    rows = [
      ("parameters", f"{self.parameters / 1e9:.3f} billion"),
      ("a batch", f"{self.tokens:,} places"),
      ("", ""),
      ("weights", _size(self.weights_gib)),
      ("moments", _size(self.moments_gib)),
      ("temporaries", _size(self.temporaries_gib)),
      ("peak", f"{_size(self.peak_gib)} of {_size(self.memory_gib)}, {_size(self.room_gib)} free"),
      ("", ""),
      ("products", f"{self.petaflops:.3g} petaflop a step, {100 * self.attention_share:.0f} % in attention"),
      ("computed twice", f"{100 * self.computed_twice:.0f} % more"),
      ("at the peak", f"{self.least_seconds:.3g} s a step, {self.tokens / self.least_seconds:,.0f} places/s: a bound"),
      ("", ""),
      *((one.kind, _travelled(one)) for one in self.travel),
      ("", ""),
      *self._predicted(),
    ]
    if self.host_gib:
      rows.insert(7, ("host", _size(self.host_gib)))
    lines = [f"{self.run} on {self.machine}, {self.devices} devices: {axes}", ""]
    lines += [f"  {name:<20} {value}".rstrip() for name, value in rows]
    return "\n".join([*lines, "", f"  compiled in {self.compile_seconds:.0f} s of processor time"])

  def _predicted(self) -> list[tuple[str, str]]:
    """Returns the rows about time."""
    (short, long), (most, least) = self.seconds, self.used_share
    hours = " to ".join(f"{number:,.0f}" for number in self.chip_hours)
    days = " to ".join(f"{self.steps * seconds / 86400:.2g}" for seconds in self.seconds)
    cycles = f", {self.cycles / 1e6:,.0f} million cycles beside kernels" if self.cycles else ": no cycles were told"
    used = f"{'' if self.cycles else 'at most '}{100 * least:.0f} to {100 * most:.0f} % of the peak"
    rows = [
      ("computing", f"{self.compute_seconds:.3g} s{cycles}"),
      ("travelling", f"{self.travel_seconds:.3g} s at least"),
      ("a step", f"{short:.3g} s if both overlap, {long:.3g} s if not: {used}"),
      ("", f"{self.tokens / long:,.0f} to {self.tokens / short:,.0f} places/s"),
      ("the run", f"{self.steps:,} steps, {days} days, {hours} chip hours"),
    ]
    if self.unread_loops:
      rows.append(("not read", f"how often {self.unread_loops} loops run: they count once"))
    return rows


def make_plan(
  run: Run,
  topology: Topology,
  *,
  devices: Sequence[Any],
  options: Mapping[str, str],
  half: bool = False,
  keep: Path | None = None,
) -> Plan:
  """Returns the plan of a run's step.

  Args:
    run: what would be trained.
    topology: the machine.
    devices: of it, from `find_devices`; or others, to try the path without the compiler for TPUs.
    options: of the compiler, as a launch would give them.
    half: whether only the first half of the compile is done (`plan.half`): without cycles, in a fraction of the time.
    keep: a file for the compiled step; not with `half`.

  Raises:
    UserError: the run does not divide over the devices; `TooLarge` where it does not fit into their memory.
  """
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start, children = time.process_time(), before.ru_utime + before.ru_stime
  program = trace_step(run, devices)
  held = round((_held(program.state) + _held(program.batch)) * _GIB)
  if half:
    executable = compile_half(run, topology, options=options, arguments=held)
  else:
    executable = compile_program(program, options=options, keep=keep)
  spent = resource.getrusage(resource.RUSAGE_CHILDREN)
  seconds = time.process_time() - start + (spent.ru_utime + spent.ru_stime - children if half else 0.0)
  sizes, generation = dict(program.mesh.shape), topology.generation
  scheduled = ScheduledProgram(executable.text)
  shapes = batch_shapes(run)
  (useful, attention), whole = useful_operations(run, shapes), all_operations(run, shapes)
  again = whole.total - useful
  peak = generation.teraflops * 1e12 * len(devices)
  cycles = scheduled.cycles()
  in_kernels = whole.attention if KERNEL in executable.text else 0.0
  computing = cycles / (generation.gigahertz * 1e9) + in_kernels / peak if cycles else (useful + again) / peak
  return Plan(
    run=run.name,
    machine=topology.name,
    devices=len(devices),
    mesh=sizes,
    parameters=sum(math.prod(leaf.shape) for leaf in program.state.parameters.values()),
    tokens=math.prod(program.batch["tokens"].shape) if "tokens" in program.batch else 0,
    weights_gib=_held(program.state.parameters),
    moments_gib=_held(program.state.moments),
    arguments_gib=executable.arguments / _GIB,
    temporaries_gib=executable.temporaries / _GIB,
    peak_gib=executable.peak / _GIB,
    memory_gib=generation.memory_gib,
    host_gib=executable.host / _GIB,
    petaflops=useful / 1e15,
    attention_share=attention / useful,
    computed_twice=again / useful,
    least_seconds=(useful + again) / peak,
    cycles=cycles,
    compute_seconds=computing,
    travel=_travel(read_collectives(scheduled, mesh=sizes), topology),
    unread_loops=scheduled.unread,
    steps=run.steps,
    chips=topology.chips,
    compile_seconds=seconds,
    memory=executable.memory,
  )


def _travel(found: list[Collective], topology: Topology) -> tuple[Travel, ...]:
  """Returns what travels by kind and axes, most first."""
  groups: dict[tuple[str, tuple[str, ...]], list[Collective]] = {}
  for one in found:
    groups.setdefault((one.kind, one.axes), []).append(one)
  rate = topology.generation.link_gigabytes * 1e9
  rows = [
    Travel(
      kind=kind,
      axes=axes,
      gib=sum(one.bytes * one.times for one in same) / _GIB,
      times=sum(one.times for one in same),
      seconds=0.0 if topology.slices > 1 and "replica" in axes else sum(one.received for one in same) / rate,
    )
    for (kind, axes), same in groups.items()
  ]
  return tuple(sorted(rows, key=lambda row: -row.gib))


def _travelled(one: Travel) -> str:
  axes = " and ".join(one.axes) or "-"
  return f"{_size(one.gib)} in {one.times:,} along {axes}, {one.seconds:.3g} s"


def _size(gib: float) -> str:
  return f"{gib:.2f} GiB" if abs(gib) >= 0.1 else f"{1024 * gib:.3g} MiB"


def _held(tree: Any) -> float:
  """Returns the GiB of shapes with shardings on one device."""
  leaves = jax.tree.leaves(tree)
  return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves) / _GIB
