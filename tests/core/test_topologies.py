import math

import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import GENERATIONS, find_topology


@pytest.mark.parametrize(
  ("name", "chips", "devices", "hosts", "rented", "compiled"),
  [
    ("v5p-128", 64, 64, 16, "v5p-128", "v5p:4x4x4"),
    ("v4-8", 4, 4, 1, "v4-8", "v4:2x2x1"),
    ("v5e-256", 256, 256, 64, "v5litepod-256", "v5e:16x16"),
    ("v6e-8", 8, 8, 1, "v6e-8", "v6e:2x4"),
    ("v5e-1", 1, 1, 1, "v5litepod-1", "v5e:1x1"),
    ("2xv6e-256", 512, 512, 128, "v6e-256", "v6e:16x16"),
    ("tpu7x-16", 8, 16, 2, "tpu7x-16", "tpu7x:2x2x2"),
  ],
)
def test_a_name_means_one_machine(name, chips, devices, hosts, rented, compiled):
  topology = find_topology(name)
  assert (topology.chips, topology.devices, topology.hosts) == (chips, devices, hosts)
  assert (topology.accelerator_type, topology.compiler_name, topology.name) == (rented, compiled, name)


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=GENERATIONS)
def test_a_number_counts_what_its_generation_counts(generation):
  unit = 1 if len(next(iter(generation.shapes.values()))) == 2 else 2  # planes count chips, cubes count cores
  assert all(math.prod(shape) * unit == number for number, shape in generation.shapes.items())


@pytest.mark.parametrize(
  ("name", "wraps"),
  [("v5p-128", (True,) * 3), ("v5p-64", (False,) * 3), ("v6e-256", (True, True)), ("v6e-128", (False, True))],
)
def test_the_ends_of_whole_racks_and_of_long_sides_meet(name, wraps):
  assert find_topology(name).wraps == wraps


def test_slices_are_said_once():
  assert find_topology("v6e-16", slices=4).name == "4xv6e-16"
  assert find_topology("4xv6e-16", slices=4).slices == 4
  with pytest.raises(UserError, match="said once"):
    find_topology("2xv6e-16", slices=3)


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("v5e-512", "v5e-128 or v5e-256"),  # the compiler would take it
    ("v5p-100", "v5p-64 or v5p-128"),
    ("v9-8", "a generation among v4"),
    ("0xv6e-16", "at least one slice"),
    ("pod", "GENERATION-NUMBER"),
    ("", "GENERATION-NUMBER"),
  ],
)
def test_a_machine_that_cannot_be_rented_is_told(name, words):
  with pytest.raises(UserError) as error:
    find_topology(name)
  assert words in str(error.value)
