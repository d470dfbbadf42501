"""What a step of a run needs on a TPU pod, before one is rented: memory, operations, what travels between devices.

The real step is compiled for the machine by the compiler for TPUs (pip install libtpu), which runs anywhere; it takes
minutes of processor time. Figures of speed are bounds, not promises: nothing is run.
"""

import argparse
from pathlib import Path

import jax

from omni_jax.cli.configs import load_config
from omni_jax.core.files import write_whole
from omni_jax.core.topologies import find_topology
from omni_jax.plan.program import find_devices
from omni_jax.plan.report import make_plan
from omni_jax.pods.flags import compiler_options
from omni_jax.train.loop import Run

EXAMPLE = (
  "omni plan --config configs/emova/full.py:emova_7b_align --workdir runs/7b --topology v5p-128 --mesh fsdp=64 "
  "--set step.compute_dtype=bfloat16"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni plan`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="what would be trained")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder; its vocabulary is read")
  parser.add_argument("--topology", required=True, metavar="MACHINE", help="for example v5p-128, 2xv6e-256")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )
  parser.add_argument("--mesh", metavar="AXIS=SIZE,...", help="how devices are used, for example fsdp=32,tensor=2")
  parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there too")


def run(arguments: argparse.Namespace) -> None:
  """Plans."""
  topology = find_topology(arguments.topology)
  jax.config.update("jax_platforms", "cpu")  # nothing is run, so no accelerator is taken
  settings = [*arguments.set, *([f"mesh={arguments.mesh}"] if arguments.mesh is not None else [])]
  chosen = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,), settings=settings)
  devices = find_devices(topology)
  print(f"compiling {chosen.name} for {topology.name}: minutes of processor time", flush=True)
  plan = make_plan(chosen, topology, devices=devices, options=compiler_options(topology))
  print(plan.table())
  if arguments.json is not None:
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.json, plan.to_json() + "\n")
    print(arguments.json)
