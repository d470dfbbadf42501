import importlib.util
import os
import subprocess
import sys

import pytest

from omni_jax.core.topologies import GENERATIONS, find_topology
from omni_jax.pods.flags import compiler_options, environment, flags

MACHINES = [f"{slices}{name}-{16}" for name in GENERATIONS for slices in ("", "2x")]

COMPILE = """
import sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from omni_jax.core.topologies import find_topology
from omni_jax.pods.flags import compiler_options
topology = find_topology(sys.argv[1])
extra = {"chip_config_name": topology.generation.chip_config} if topology.generation.chip_config else {}
described = topologies.get_topology_desc(
  platform="tpu", topology_name=topology.compiler_name, num_slices=topology.slices, **extra)
assert len(described.devices) == topology.devices, (len(described.devices), topology.devices)
mesh = jax.sharding.Mesh(described.devices, ("x",))
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
x = jax.ShapeDtypeStruct((topology.devices * 128, 128), jnp.bfloat16, sharding=rows)
lowered = jax.jit(lambda x: (x @ x.T @ x).sum(0)).lower(x)
lowered.compile(compiler_options=compiler_options(topology))
print("compiled")
"""


def test_each_flag_has_a_reason_and_stands_once():
  for machine in MACHINES:
    chosen = flags(find_topology(machine))
    names = [flag.name for flag in chosen]
    assert len(names) == len(set(names)) and all(flag.reason for flag in chosen)


def test_what_only_a_runtime_knows_is_no_option_of_a_compile():
  topology = find_topology("2xv6e-16")
  args = environment(topology)["LIBTPU_INIT_ARGS"]
  assert "--megascale_graph_hang_threshold=10m" in args.split()
  options = compiler_options(topology)
  assert options and not any(name.startswith("megascale") for name in options)
  assert all(f"--{name}={value}" in args.split() for name, value in options.items())
  assert "megascale" not in environment(find_topology("v6e-16"))["LIBTPU_INIT_ARGS"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (pip install libtpu)")
@pytest.mark.parametrize("machine", MACHINES)
def test_the_compiler_takes_every_set(machine):
  # An unknown flag ends the process while libtpu loads; a set that contradicts itself ends the compile.
  own = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
  given = {**os.environ, **environment(find_topology(machine)), **own}
  done = subprocess.run(
    [sys.executable, "-c", COMPILE, machine], env=given, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0 and "compiled" in done.stdout, done.stderr[-2000:]
