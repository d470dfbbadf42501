"""The same loss and gradients on one device and on eight, whatever the mesh; refusals of meshes that do not divide."""

import itertools
import json
import subprocess
import sys

import jax
import pytest
from jax.sharding import AxisType

from omni_jax.core import sharding
from omni_jax.core.errors import UserError
from omni_jax.train.losses import next_token
from tests.devices import environment
from tests.train import packed
from tests.train.stages import ROOT

# Sums in another order: of the loss 2e-6 at worst, of a gradient 2e-6 of the whole gradient's norm.
LOSS, GRADIENT = 1e-5, 1e-5


def on_meshes(meshes, *, size, accumulate=1):
  command = [sys.executable, "-m", "tests.train.on_meshes", size, str(accumulate), *meshes]
  done = subprocess.run(command, env=environment(8), cwd=ROOT, capture_output=True, text=True, timeout=7200)
  assert done.returncode == 0, done.stderr[-3000:]
  lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
  assert [line["mesh"] for line in lines] == list(meshes)
  for line in lines:
    assert line["loss"] < LOSS and line["gradient"] < GRADIENT, line
  return lines


def test_a_mixed_mesh_equals_one_device():
  (line,) = on_meshes(["fsdp=2,tensor=2,sequence=2"], size="bare")
  assert line["share"] < 0.35  # fsdp and tensor halve nearly everything


@pytest.mark.slow
def test_mixed_meshes_equal_one_device_in_two_parts():
  """Images and experts too; about two minutes of processor time."""
  lines = on_meshes(["fsdp=2,tensor=2,sequence=2", "replica=2,fsdp=2,expert=2"], size="experts", accumulate=2)
  assert lines[0]["share"] < 0.35 and lines[1]["share"] < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_axis_and_every_two_equal_one_device(accumulate):
  """About five minutes of processor time."""
  single = [f"{axis}=8" for axis in sharding.MESH_AXES]
  pairs = [f"{one}=2,{other}=4" for one, other in itertools.combinations(sharding.MESH_AXES, 2)]
  on_meshes(single + pairs, size="wide", accumulate=accumulate)


def abstract_mesh(**sizes):
  shape = tuple(sizes.get(name, 1) for name in sharding.MESH_AXES)
  return jax.sharding.AbstractMesh(shape, sharding.MESH_AXES, axis_types=(AxisType.Auto,) * len(shape))


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"tensor": 8}, r"4 heads over 8 devices|2 heads over 8"),
    ({"tensor": 4}, r"2 key-value heads over 4 devices|2 heads over 4"),
    ({"sequence": 3}, r"16 positions over 3 devices"),
  ],
)
def test_a_mesh_that_does_not_divide_the_model_is_refused(sizes, message):
  model = jax.eval_shape(lambda: packed.model_config().make(key=jax.random.key(0)))
  batch = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in packed.batch_of(2).items()}
  with jax.sharding.use_abstract_mesh(abstract_mesh(**sizes)), pytest.raises(UserError, match=message):
    jax.eval_shape(lambda model, batch: next_token(model, batch, jax.random.key(0)), model, batch)
