"""Weak scaling by plan: the same rows for each device on ever more of them, and what travels then.

A slice grows by hosts (`fsdp` grows with it), then slices are added (`replica`). What one device receives and sends
should stay: it is weights, gathered and as gradients, and neither depends on the number of devices but for the part
that a device holds itself. Where it does not stay, the table says by how much, and of which kind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from omni_jax.core import config, sharding
from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology
from omni_jax.plan.program import find_devices
from omni_jax.plan.report import Plan, make_plan
from omni_jax.train.loop import Run


def grown(topology: Topology, *, hosts: int, slices: int) -> list[Topology]:
  """Returns a machine, its twofold, fourfold, ... of at most so many hosts, and up to so many slices of it."""
  kind, number = topology.generation, topology.number
  larger = [Topology(generation=kind, number=size) for size in sorted(kind.shapes) if size > number]
  doubled = [one for one in larger if one.number % number == 0 and (one.number // number).bit_count() == 1]
  several = [Topology(generation=kind, number=number, slices=2**power) for power in range(1, slices.bit_length())]
  return [topology, *(one for one in doubled if one.hosts <= hosts), *(one for one in several if one.slices <= slices)]


def scale(
  run: Run, machines: Sequence[Topology], *, options: Callable[[Topology], Mapping[str, str]], half: bool
) -> Iterator[Plan]:
  """Yields the plan of a run on each machine, its rows those of the first times as many devices.

  Args:
    run: what would be trained; its data has `rows`, its mesh is for the first machine.
    machines: from `grown`.
    options: of the compiler for a machine.
    half: whether only half of each compile is done.

  Raises:
    UserError: the data has no `rows`, or a machine does not suit the run.
  """
  rows = getattr(run.data, "rows", None)
  if not isinstance(rows, int):
    raise UserError(
      f"{type(run.data).__name__} has no rows", where=f"run {run.name!r}, data",
      rule="a batch grows with the machine by data.rows", remedy="plan another stage",
    )  # fmt: skip
  first, devices = machines[0], find_devices(machines[0])
  sizes = dict(sharding.make_mesh(run.mesh, devices=devices).shape)
  for machine in machines:
    times = machine.devices // first.devices
    apart = machine.slices // first.slices
    mesh = sizes | {"replica": sizes["replica"] * apart, "fsdp": sizes["fsdp"] * (times // apart)}
    text = ",".join(f"{name}={size}" for name, size in mesh.items() if size > 1) or "fsdp=1"
    chosen = config.replace(run, {"mesh": text, "data.rows": str(rows * times)})
    yield make_plan(chosen, machine, devices=find_devices(machine), options=options(machine), half=half)


def row_of(plan: Plan, first: Plan) -> str:
  """Returns a line about a plan beside the first one: GiB that travel, by how much they differ, places a second."""
  own, before = _travelled(plan), _travelled(first)
  total, base = sum(own.values()), sum(before.values())
  share = f"{100 * (total / base - 1):+.1f} %" if base else "-"
  most = sorted(((size, kind) for kind, size in own.items() if size > 0.005), reverse=True)
  kinds = ", ".join(f"{kind} {size:.2f}" for size, kind in most)
  short, long = plan.seconds
  rate = f"{plan.tokens / long:,.0f} to {plan.tokens / short:,.0f}"
  return f"{plan.machine:<12}{plan.devices:>6}  {total:8.2f} GiB {share:>9}  {rate:>24} places/s  {kinds}"


def _travelled(plan: Plan) -> dict[str, float]:
  found: dict[str, float] = {}
  for one in plan.travel:
    name = f"{one.kind} along {' and '.join(one.axes) or 'no axis'}"
    found[name] = found.get(name, 0.0) + one.gib
  return found
