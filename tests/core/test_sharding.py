import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from omni_jax.core import sharding
from omni_jax.core.errors import UserError
from omni_jax.core.sharding import MESH_AXES, constrain, current_mesh, current_platform, make_mesh, spec
from omni_jax.nn.parameter import constant


def fake_mesh(**sizes) -> Mesh:
  shape = tuple(sizes.get(name, 1) for name in MESH_AXES)
  return jax.sharding.AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def test_the_default_mesh_uses_every_device():
  assert make_mesh().shape["fsdp"] == jax.device_count()


@pytest.mark.parametrize("text", ["fsdp", "data=2", "fsdp=1000"])
def test_wrong_meshes_are_refused(text):
  with pytest.raises(UserError, match="rule"):
    make_mesh(text)


class Chip:
  """What a mesh reads of a TPU: where it stands in its slice, and which slice it is in."""

  platform, device_kind, core_on_chip, process_index = "tpu", "TPU v5p", 0, 0

  def __init__(self, index, *, slice_index):
    self.id, self.slice_index = index + 8 * slice_index, slice_index
    self.coords = (index % 2, index // 2 % 2, index // 4)

  def __repr__(self):
    return f"chip {self.id} of slice {self.slice_index}"


def test_replica_runs_over_slices_and_nothing_else_does():
  chips = [Chip(index, slice_index=number) for number in range(2) for index in range(8)]
  assert make_mesh(devices=chips).shape == {"replica": 2, "fsdp": 8, "tensor": 1, "sequence": 1, "expert": 1}
  mesh = make_mesh("replica=4,fsdp=2,tensor=2", devices=chips[::-1])
  found = [[chip.slice_index for chip in row.flat] for row in mesh.devices]
  assert found == [[0] * 4, [0] * 4, [1] * 4, [1] * 4]
  assert {chip.id for chip in mesh.devices.flat} == set(range(16))
  with pytest.raises(UserError, match="replica=1 over 2 slices"):
    make_mesh("fsdp=16", devices=chips)
  with pytest.raises(UserError, match="replica=3 over 2 slices"):
    make_mesh("replica=3,fsdp=5", devices=chips[:15])
  with pytest.raises(UserError, match="number of devices, 16"):
    make_mesh("replica=2,fsdp=4", devices=chips)
  with pytest.raises(UserError, match="sizes from 1"):
    make_mesh("fsdp=0", devices=chips)


def test_axes_follow_the_rule_table():
  mesh = fake_mesh(fsdp=2, tensor=4)
  assert spec(("embed", "heads", None), (8, 4, 16), mesh) == PartitionSpec("fsdp", "tensor", None)


def test_a_stack_of_layers_keeps_its_leading_axis_whole():
  assert spec(("embed",), (3, 8), fake_mesh(fsdp=2)) == PartitionSpec(None, "fsdp")


def test_what_does_not_divide_stays_whole():
  assert spec(("heads",), (6,), fake_mesh(tensor=4)) == PartitionSpec(None)


def test_a_mesh_axis_is_used_once():
  assert spec(("mlp", "heads"), (8, 8), fake_mesh(tensor=2)) == PartitionSpec("tensor", None)


def test_the_mesh_that_is_set_places_arrays_and_names_the_platform():
  assert current_mesh() is None and current_platform() == "cpu"
  x = jnp.ones((4, 4))
  assert constrain(x, ("batch", None)) is x
  with jax.sharding.use_abstract_mesh(fake_mesh(fsdp=2)):
    program = jax.make_jaxpr(lambda x: constrain(x, ("batch", None)))(x)
    assert current_mesh().shape["fsdp"] == 2
  (equation,) = program.jaxpr.eqns
  assert equation.params["sharding"].spec == PartitionSpec("fsdp", None)


def test_axes_must_name_every_dimension():
  with pytest.raises(AssertionError):
    constant(0.0, (2, 3), axes=("embed",))


@pytest.mark.parametrize(
  ("held", "part"),
  [
    ([(0, 16)], (0, 1)),
    ([(8, 12), (12, 16), (8, 12)], (1, 2)),  # two devices share rows 8 to 11: they split something else
    ([(4, 8)], (1, 4)),
    ([(0, 4), (8, 12)], (0, 1)),  # no single run: everything is read
    ([(2, 8)], (0, 1)),
  ],
)
def test_a_process_reads_the_rows_of_its_devices(monkeypatch, held, part):
  indices = {f"device {number}": (slice(*rows),) for number, rows in enumerate(held)}
  fake = types.SimpleNamespace(addressable_devices_indices_map=lambda shape: indices)
  monkeypatch.setattr(sharding, "batch_sharding", lambda mesh: fake)
  assert sharding.part_of_rows(make_mesh(), 16) == part
