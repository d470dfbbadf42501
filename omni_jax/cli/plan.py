"""What a step of a run needs on a TPU pod, before one is rented: memory, operations, what travels between devices.

The real step is compiled for the machine by the compiler for TPUs (pip install libtpu), which runs anywhere; it takes
minutes of processor time. How long a step takes is predicted, not promised: nothing is run.

--search N compiles the N likely best meshes, recomputations and accumulations, and plans with the shortest step that
fits; each takes as long as a plan, less where it does not fit. --quick does half of each compile, in a fraction of the
time: memory and traffic are the same, computing is then a bound from below. --scaling plans the same rows a device on
ever larger machines, from the named one. --html draws memory over the step. --executable keeps what was compiled, so
that `omni train --executable` on that machine begins at once. A step that does not fit is refused with the nearest
that do.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.core.topologies import Topology, find_topology
from omni_jax.plan.advice import advise
from omni_jax.plan.picture import draw
from omni_jax.plan.program import TooLarge, find_devices
from omni_jax.plan.report import Plan, make_plan
from omni_jax.plan.scaling import grown, row_of, scale
from omni_jax.plan.search import best, nearest, search
from omni_jax.pods.flags import compiler_options
from omni_jax.train.loop import Run

_MOST_HOSTS, _MOST_SLICES = 64, 8

EXAMPLE = "omni plan --config configs/emova/full.py:emova_7b_align --workdir runs/7b --topology v5p-128 --mesh fsdp=64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni plan`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="what would be trained")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder; its vocabulary is read")
  parser.add_argument("--topology", required=True, metavar="MACHINE", help="for example v5p-128, 2xv6e-256")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )
  parser.add_argument("--mesh", metavar="AXIS=SIZE,...", help="how devices are used, for example fsdp=32,tensor=2")
  parser.add_argument("--search", type=int, metavar="N", help="compile the N likely best meshes, remats and parts")
  parser.add_argument("--quick", action="store_true", help="half of each compile: memory and travel, no cycles")
  parser.add_argument("--scaling", action="store_true", help="the same rows a device on 1 to 64 hosts, 1 to 8 slices")
  parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there too")
  parser.add_argument("--executable", type=Path, metavar="FILE", help="keep the compiled step for omni train there")
  parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with a picture of memory over the step")


def run(arguments: argparse.Namespace) -> None:
  """Plans."""
  topology = find_topology(arguments.topology)
  _check(arguments)
  jax.config.update("jax_platforms", "cpu")  # nothing is run, so no accelerator is taken
  settings = [*arguments.set, *([f"mesh={arguments.mesh}"] if arguments.mesh is not None else [])]
  chosen = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,), settings=settings)
  devices = find_devices(topology)
  if arguments.scaling:
    _scale(chosen, topology, half=arguments.quick)
    return
  if arguments.search is not None:
    plan = _searched(chosen, topology, devices=devices, most=arguments.search, half=arguments.quick)
  else:
    print(f"compiling {chosen.name} for {topology.name}: minutes of processor time", flush=True)
    plan = _planned(chosen, topology, devices=devices, half=arguments.quick, keep=arguments.executable)
  print("\n".join([plan.table(), *(f"  advice: {line}" for line in advise(plan))]))
  if arguments.json is not None:
    write_whole(arguments.json, plan.to_json() + "\n")
    print(arguments.json)
  if arguments.executable is not None:
    print(arguments.executable)
  if arguments.html is not None:
    _write_page(plan, arguments.html)


def _check(arguments: argparse.Namespace) -> None:
  """Refuses flags that cannot be kept together, before anything is compiled."""
  if arguments.executable is not None and (arguments.quick or arguments.search is not None):
    raise UserError(
      "--executable with --quick or --search", where="omni plan", rule="one whole compile makes an executable",
      remedy="plan the chosen mesh once more with --executable alone",
    )  # fmt: skip
  of_one = [f"--{name}" for name in ("search", "json", "executable", "html") if getattr(arguments, name) is not None]
  if arguments.scaling and of_one:
    raise UserError(
      f"--scaling with {' and '.join(of_one)}", where="omni plan", rule="a table of many machines is no single plan",
      remedy="plan the chosen machine once more without --scaling",
    )  # fmt: skip


def _planned(chosen: Run, topology: Topology, *, devices: Sequence[Any], half: bool, keep: Path | None) -> Plan:
  """Returns the plan; where the step does not fit, says which uses of the machine nearest to it do."""
  options = compiler_options(topology)
  try:
    return make_plan(chosen, topology, devices=devices, options=options, half=half, keep=keep)
  except TooLarge as error:
    if not hasattr(chosen.model, "decoder"):
      raise
    print(f"{error.what}: looking for what fits, a few minutes", flush=True)
    found = nearest(chosen, topology, devices=devices, options=options)
    if not found:
      raise
    lines = [
      " ".join(f"--set {path}={value}" for path, value in one.choice.settings(chosen).items())
      + (f"  ({one.plan.peak_gib:.1f} GiB)" if one.plan is not None else "")
      for one in found
    ]
    remedy = "\n    ".join(["the nearest that fit:", *lines])
    raise TooLarge(error.what, where=error.where, rule=error.rule, remedy=remedy) from error


def _scale(chosen: Run, topology: Topology, *, half: bool) -> None:
  """Prints what travels as the machine grows."""
  machines = grown(topology, hosts=_MOST_HOSTS, slices=_MOST_SLICES)
  print(
    f"{chosen.name} on {len(machines)} machines, a compile each; GiB of a step that travel by each device", flush=True
  )
  first = None
  for plan in scale(chosen, machines, options=compiler_options, half=half):
    first = first or plan
    print(row_of(plan, first), flush=True)


def _write_page(plan: Plan, file: Path) -> None:
  """Writes the picture of a plan."""
  if plan.memory is None:
    raise UserError(
      "the compiler told nothing of memory over time", where=f"omni plan --html {file}",
      rule="its dump holds *-buffer-assignment.txt and *-live-range.txt, as libtpu's up to 0.0.52 does",
      remedy="plan without --html, or with that libtpu",
    )  # fmt: skip
  write_whole(file, draw(plan, plan.memory))
  print(file)


def _searched(chosen: Run, topology: Topology, *, devices: Sequence[Any], most: int, half: bool) -> Plan:
  """Returns the best plan of as many choices as asked; prints each as it comes."""
  if most < 1:
    raise UserError(f"--search {most}", where="omni plan", rule="at least one is compiled", remedy="for example 6")
  print(f"compiling up to {most} choices of {chosen.name} for {topology.name}: minutes of processor time each")
  outcomes = []
  options = compiler_options(topology)
  for outcome in search(chosen, topology, devices=devices, options=options, most=most, half=half):
    outcomes.append(outcome)
    print(outcome, flush=True)
  found = best(outcomes)
  if found is None or found.plan is None:
    raise UserError(
      f"none of {len(outcomes)} choices fits", where=f"omni plan --search on {topology.name}",
      rule="a step fits into the memory of a device", remedy="try more of them, fewer rows, or a larger machine",
    )  # fmt: skip
  settings = found.choice.settings(chosen)
  print("\nbest:", " ".join(f"--set {path}={value}" for path, value in settings.items()), "\n")
  return found.plan
