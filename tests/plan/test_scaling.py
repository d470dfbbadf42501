import dataclasses

import jax
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import find_topology
from omni_jax.plan import scaling
from omni_jax.plan.report import Travel
from tests.plan.test_report import Shaped, make_run
from tests.plan.test_search import outcome  # noqa: F401  (a fixture)


def test_a_machine_grows_by_hosts_and_then_by_slices():
  found = scaling.grown(find_topology("v5p-8"), hosts=64, slices=8)
  assert [one.name for one in found] == [
    "v5p-8", "v5p-16", "v5p-32", "v5p-64", "v5p-128", "v5p-256", "v5p-512", "2xv5p-8", "4xv5p-8", "8xv5p-8",
  ]  # fmt: skip
  assert max(one.hosts for one in found) == 64


def test_rows_and_mesh_grow_with_the_devices(monkeypatch, outcome):  # noqa: F811
  planned = []

  def make(run, machine, *, devices, options, half):
    planned.append((run.mesh, run.data.rows))
    assert len(devices) == machine.devices and half and options == {"for": machine.name}
    far = Travel(kind="all-gather", axes=("fsdp",), gib=2.0 + (machine.slices > 1), times=1, seconds=0.1)
    return dataclasses.replace(outcome.plan, machine=machine.name, devices=machine.devices, travel=(far,))

  monkeypatch.setattr(scaling, "make_plan", make)
  monkeypatch.setattr(scaling, "find_devices", lambda machine: [jax.devices()[0]] * machine.devices)
  machines = scaling.grown(find_topology("v5e-4"), hosts=2, slices=2)
  run = make_run(mesh="fsdp=2,tensor=2", data=Shaped(rows=4, length=16))
  plans = list(scaling.scale(run, machines, options=lambda one: {"for": one.name}, half=True))
  assert [one.name for one in machines][-1] == "2xv5e-4"
  assert planned[0] == ("fsdp=2,tensor=2", 4) and planned[-1] == ("replica=2,fsdp=2,tensor=2", 8)
  assert ("fsdp=4,tensor=2", 8) in planned
  assert "+0.0 %" in scaling.row_of(plans[1], plans[0]) and "+50.0 %" in scaling.row_of(plans[-1], plans[0])


def test_data_without_rows_is_refused():
  with pytest.raises(UserError, match="has no rows"):
    next(scaling.scale(make_run(data=None), [find_topology("v5e-4")], options=lambda _: {}, half=True))
