"""Several processes on one machine are one run: real collectives (gloo) between processes of two devices each.

All of it is slow: `pytest -m slow tests/train/test_processes.py`.
"""

import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from omni_jax.checkpoint import store
from tests.devices import environment
from tests.train.stages import ROOT, assert_same_bits, curve, params_of

pytestmark = pytest.mark.slow

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
  step=StepConfig(accumulate=2),
)
train(run, Path("{folder}"))
"""


def run_in(code, *, count, devices=2, status=0):
  """Runs Python code in the processes of a job; returns what the first one printed, and all errors."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  job = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(count)}
  started = [
    subprocess.Popen(
      [sys.executable, "-c", code],
      env=environment(devices) | job | {"JAX_PROCESS_ID": str(number)},
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(count)
  ]
  try:
    ends = [process.communicate(timeout=7200) for process in started]
  finally:
    for process in started:
      process.kill()
  for process, (_, errors) in zip(started, ends, strict=True):
    assert process.returncode == status, f"{errors[:3000]}\n...\n{errors[-1000:]}"
  spoken = [line for out, _ in ends[1:] for line in out.splitlines() if "[Gloo]" not in line]
  assert not spoken, "only the first process speaks"
  return ends[0][0], "\n".join(errors for _, errors in ends)


def train_in(folder, *, count, devices, mesh):
  """Trains the tiny EMOVA in `count` processes; returns what the first one printed."""
  code = CODE.format(count=count, devices=devices, mesh=mesh, folder=folder, steps=20)
  return run_in(code, count=count, devices=devices)[0]


def toy_in(folder, *, count, devices=2, status=0, **changes):
  """Trains the toy in `count` processes; returns what the first one printed, and all errors."""
  words = ", ".join(f"{name}={value!r}" for name, value in changes.items())
  code = f"from tests.train.jobs import main; main({str(folder)!r}, devices={devices}, steps=12, {words})"
  return run_in(code, count=count, devices=devices, status=status)


def test_two_processes_of_two_devices_train_as_one(tmp_path):
  """The first twenty losses of the tiny EMOVA; about two minutes."""
  train_in(tmp_path / "one", count=1, devices=1, mesh="")
  expected = np.array(curve(tmp_path / "one/stages/omni"))
  assert len(expected) == 20 and expected[-1, 1] < expected[0, 1]
  for name, mesh in {"fsdp": "fsdp=4", "mixed": "fsdp=2,tensor=2"}.items():
    said = train_in(tmp_path / name, count=2, devices=2, mesh=mesh)
    assert "fsdp=" in said and "20/20" in said
    np.testing.assert_allclose(np.array(curve(tmp_path / name / "stages/omni")), expected, rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """The stage of a run of the toy in two processes that nobody stopped."""
  folder = tmp_path_factory.mktemp("undisturbed")
  toy_in(folder, count=2, kind="Parts")
  return folder / "stages/toy"


def test_a_signal_to_one_process_stops_all_after_the_same_step(undisturbed, tmp_path):
  data = {"signal_name": "SIGTERM", "process": 1, "after_batches": 5, "mark": str(tmp_path / "mark")}
  said, _ = toy_in(tmp_path, count=2, status=143, kind="Signalled", data=data, save_every=100)
  stage = tmp_path / "stages/toy"
  step = store.latest_step(stage)
  assert step is not None and step < 12 and f"stopped at step {step}, saved" in said
  assert [number for number, _ in curve(stage)] == list(range(1, step + 1))
  said, _ = toy_in(tmp_path, count=2, kind="Signalled", data=data, save_every=100)
  assert f"going on from step {step}" in said
  assert_same_bits(undisturbed, stage)


def test_a_process_that_is_late_for_the_first_step_is_waited_for(undisturbed, tmp_path):
  """Forty seconds late, as where hosts compile at different speeds; gloo itself gives up after thirty."""
  toy_in(tmp_path, count=2, kind="Late")
  assert_same_bits(undisturbed, tmp_path / "stages/toy")


@pytest.mark.parametrize(("count", "devices"), [(1, 4), (4, 1)])
def test_what_two_processes_wrote_another_number_goes_on_from(undisturbed, tmp_path, count, devices):
  """The same batches; losses and parameters but for the order of sums over processes."""
  stage = tmp_path / "stages/toy"
  shutil.copytree(undisturbed, stage)
  shutil.rmtree(store.checkpoints_folder(stage) / "12")
  said, _ = toy_in(tmp_path, count=count, devices=devices, kind="Parts")
  assert "going on from step 8" in said
  np.testing.assert_allclose(np.array(curve(stage)), np.array(curve(undisturbed)), rtol=1e-5)
  ours, theirs = params_of(stage), params_of(undisturbed)
  for path, leaf in ours.items():
    np.testing.assert_allclose(leaf, theirs[path], rtol=1e-4, atol=1e-6, err_msg=path)


def test_positions_of_their_own_are_told(tmp_path):
  toy_in(tmp_path, count=2, kind="OwnPositions")
  stage = tmp_path / "stages/toy"
  shutil.rmtree(store.checkpoints_folder(stage) / "12")
  _, errors = toy_in(tmp_path, count=1, devices=4, status=1, kind="OwnPositions")
  assert "2 processes wrote positions of the data that differ" in errors
  assert store.latest_step(stage) == 8
