"""The whole path of a plan on the CPU's own compiler, and, where libtpu is installed, for a TPU that is not there."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import find_topology
from omni_jax.plan.program import Program, batch_shapes, find_devices, memory_errors, trace_step
from omni_jax.plan.report import make_plan
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import Group, OptimizerConfig
from omni_jax.train.step import StepConfig
from tests.train import packed
from tests.train.stages import ROOT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shaped(packed.PackedData):
  def shapes(self):
    arrays = packed.batch_of(self.rows, length=self.length)
    return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}


def make_run(**changes):
  fields = {
    "name": "omni",
    "model": packed.model_config(remat="full"),
    "loss": next_token,
    "optimizer": OptimizerConfig(learning_rate=1e-3, groups=(Group("vision", 0.0),)),
    "data": Shaped(rows=4, length=16),
    "steps": 10,
  }
  return Run(**{**fields, **changes})


def products_of_the_decoder():
  """The forward products of the decoder for one batch, by hand: projections, scores and values, network, logits."""
  rows, length, width, inner, kv, mlp, vocab = 4, 16, 16, 32, 16, 24, 64
  layer = 2 * length * (2 * width * inner + 2 * width * kv + 3 * width * mlp) + 2 * 2 * length**2 * inner
  return rows * (2 * layer + 2 * length * width * vocab)


def test_a_plan_of_the_step_on_this_machine():
  plan = make_plan(make_run(), find_topology("v5e-1"), devices=jax.devices(), options={})
  model = jax.eval_shape(lambda: packed.model_config().make(key=jax.random.key(0)))
  numbers = sum(leaf.size for leaf in jax.tree.leaves(model))
  assert plan.parameters == numbers and plan.tokens == 64
  assert plan.weights_gib * 2**30 == 4 * numbers
  learning = sum(leaf.size for leaf in jax.tree.leaves((model.decoder, model.projector)))
  assert plan.moments_gib * 2**30 == pytest.approx(8 * learning, abs=8)  # no moments of the frozen tower
  assert plan.arguments_gib > plan.weights_gib + plan.moments_gib and plan.temporaries_gib > 0
  decoder = products_of_the_decoder()
  # Three times the decoder's, its head's once more, chunk by chunk; the projector's with it, the tower's once.
  assert 3 * decoder <= plan.petaflops * 1e15 < 3.4 * decoder
  assert 0.2 < plan.computed_twice < 0.45  # full remat: one forward pass in three
  assert not plan.travel  # one device
  # This machine's compiler tells no cycles: computing takes what the products take at the peak.
  assert plan.cycles == 0 and plan.unread_loops == 0
  assert plan.seconds == (plan.least_seconds, plan.least_seconds)
  assert plan.used_share[0] == pytest.approx(1 / (1 + plan.computed_twice))
  assert plan.chip_hours[0] == pytest.approx(10 * plan.least_seconds / 3600)
  data = json.loads(plan.to_json())
  assert data["room_gib"] == pytest.approx(plan.memory_gib - plan.peak_gib)
  for word in (
    "weights",
    "moments",
    "temporaries",
    "peak",
    "one device",
    "petaflop",
    "no cycles were told",
    "10 steps",
  ):
    assert word in plan.table()


def test_a_step_that_does_not_divide_is_refused():
  with pytest.raises(UserError, match=r"divides over 1 devices .* and 8 parts"):
    trace_step(make_run(step=StepConfig(accumulate=8)), jax.devices()[:1])
  with pytest.raises(UserError, match="number of devices, 1"):
    trace_step(make_run(mesh="fsdp=2"), jax.devices()[:1])
  with pytest.raises(UserError, match="does not say the shapes"):
    batch_shapes(make_run(data=packed.PackedData(rows=4, length=16)))


TPU = importlib.util.find_spec("libtpu") is not None


@pytest.mark.skipif(TPU, reason="libtpu is installed")
def test_without_the_compiler_for_tpus_a_plan_says_what_to_install():
  with pytest.raises(UserError, match="pip install"):
    find_devices(find_topology("v5e-16"))


CODE = """
from omni_jax.core.topologies import find_topology
from omni_jax.plan.program import find_devices
from omni_jax.plan.report import make_plan
from omni_jax.pods.flags import compiler_options
from omni_jax.train.step import StepConfig
from tests.plan.test_report import Shaped, make_run
from tests.train import packed
topology = find_topology("v5e-16")
run = make_run(data=Shaped(rows=8, length=512), mesh="fsdp=4,tensor=2,sequence=2",
               step=StepConfig(compute_dtype="bfloat16"), model=packed.model_config(head_dim=32))
plan = make_plan(run, topology, devices=find_devices(topology), options=compiler_options(topology))
print(plan.table())
assert plan.devices == 16 and 0 < plan.peak_gib < 1
assert {"fsdp", "tensor", "sequence"} <= {axis for one in plan.travel for axis in one.axes}
assert plan.cycles > 0 and plan.unread_loops == 0 and plan.travel_seconds > 0
assert plan.compute_seconds > plan.least_seconds and 0 < plan.used_share[1] < plan.used_share[0] < 1
half = make_plan(run, topology, devices=find_devices(topology), options=compiler_options(topology), half=True)
assert half.cycles == 0 and half.travel == plan.travel
assert abs(half.temporaries_gib / plan.temporaries_gib - 1) < 0.01 and half.peak_gib >= plan.peak_gib
assert 0 < half.arguments_gib <= plan.arguments_gib  # without the padding of small arrays
"""


@pytest.mark.slow
@pytest.mark.skipif(not TPU, reason="libtpu is not installed (pip install libtpu)")
def test_a_plan_for_a_machine_that_is_not_there():
  own = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
  done = subprocess.run([sys.executable, "-c", CODE], env=os.environ | own, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
  "message",
  [
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 51.08G of 15.75G hbm. Exceeded by 35G",
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (51.08G) exceeds available HBM (15.75G). HLO module: jit_step.",
  ],
)
def test_a_step_that_does_not_fit_says_how_much_it_needs(message):
  program = Program(run=make_run(), mesh=jax.make_mesh((1,), ("fsdp",)), state=None, batch={}, lowered=None)
  with pytest.raises(UserError, match=r"51\.08G of memory on each device, which has 15\.75G"), memory_errors(program):
    raise jax.errors.JaxRuntimeError(message)
