"""Several processes on one machine are one run: real collectives (gloo) between processes of two devices each."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.train.stages import ROOT, curve

CODE = """
from omni_jax.core import processes
processes.join()
import jax
assert jax.device_count() == {count} * {devices}
from pathlib import Path
from tests.train import packed
from omni_jax.train.loop import Run, train
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.step import StepConfig
run = Run(
  name="omni", model=packed.model_config(), loss=next_token, data=packed.PackedData(rows=8, length=16), steps={steps},
  optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=3, clip_norm=1.0), log_every=1, mesh="{mesh}",
  step=StepConfig(accumulate=2), save_every={save_every},
)
train(run, Path("{folder}"))
"""


def train_in(folder, *, count, devices, mesh, steps=20, save_every=100):
  """Trains the tiny EMOVA in `count` processes; returns what the first one printed."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  environment = os.environ | {
    "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
    "JAX_NUM_PROCESSES": str(count),
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
  }
  fields = {"count": count, "devices": devices, "mesh": mesh, "folder": folder, "steps": steps}
  started = [
    subprocess.Popen(
      [sys.executable, "-c", CODE.format(save_every=save_every, **fields)],
      env=environment | {"JAX_PROCESS_ID": str(number)},
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(count)
  ]
  try:
    ends = [process.communicate(timeout=1500) for process in started]
  finally:
    for process in started:
      process.kill()
  for process, (_, errors) in zip(started, ends, strict=True):
    assert process.returncode == 0, errors[-3000:]
  spoken = [line for out, _ in ends[1:] for line in out.splitlines() if "[Gloo]" not in line]
  assert not spoken, "only the first process speaks"
  return ends[0][0]


@pytest.mark.slow
def test_two_processes_of_two_devices_train_as_one(tmp_path):
  """The first twenty losses of the tiny EMOVA, by `pytest -m slow tests/train/test_processes.py`; about two minutes."""
  train_in(tmp_path / "one", count=1, devices=1, mesh="")
  expected = np.array(curve(tmp_path / "one/stages/omni"))
  assert len(expected) == 20 and expected[-1, 1] < expected[0, 1]
  for name, mesh in {"fsdp": "fsdp=4", "mixed": "fsdp=2,tensor=2"}.items():
    said = train_in(tmp_path / name, count=2, devices=2, mesh=mesh)
    assert "fsdp=" in said and "20/20" in said
    np.testing.assert_allclose(np.array(curve(tmp_path / name / "stages/omni")), expected, rtol=1e-5, err_msg=name)
