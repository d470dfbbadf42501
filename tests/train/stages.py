"""What the tests of training share: reading a stage, and running the toy in a process of its own."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from omni_jax.checkpoint import store
from omni_jax.train.metrics import read_metrics
from tests.devices import environment

ROOT = Path(__file__).parents[2]


def params_of(stage):
  step = store.require_step(stage)
  alone = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = store.stored_shapes(stage, step=step)
  abstract = {path: jax.ShapeDtypeStruct(shape, np.float32, sharding=alone) for path, shape in shapes.items()}
  return {path: np.asarray(leaf) for path, leaf in store.load_params(stage, abstract, step=step).items()}


def assert_same_bits(stage, other):
  ours, theirs = params_of(stage), params_of(other)
  assert ours.keys() == theirs.keys()
  for path, leaf in ours.items():
    np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


def curve(stage):
  return [(line["step"], line["loss"]) for line in read_metrics(stage)]


def in_process(code, *, devices=1):
  """Runs `code` where `main` of the toy module is imported, in a process of its own."""
  command = [sys.executable, "-c", f"from tests.train.toy import main; {code}"]
  return subprocess.run(command, env=environment(devices), cwd=ROOT, capture_output=True, text=True, timeout=300)
