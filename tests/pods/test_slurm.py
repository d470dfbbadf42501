import subprocess

import pytest

from omni_jax.core.errors import UserError
from omni_jax.pods import slurm
from omni_jax.pods.commands import DryRun
from tests.pods.launches import JOB


def test_a_job_has_a_task_for_each_gpu_and_comes_back():
  dry = DryRun()
  slurm.launch(JOB, slurm.Nodes(nodes=4, gpus=8, partition="long"), runner=dry)
  (command,) = dry.commands
  lines = command.input.splitlines()
  wanted = ("--nodes=4", "--ntasks-per-node=8", "--gpus-per-node=8", "--requeue", "--partition=long")
  assert command.words == ("sbatch",) and {f"#SBATCH {word}" for word in wanted} <= set(lines)
  # Slurm stops reading its lines at the first command.
  first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
  assert not any(line.startswith("#SBATCH") for line in lines[first:])
  subprocess.run(["bash", "-n"], input=command.input, text=True, check=True)


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"gpus": 0}, {"hours": -1}])
def test_sizes_below_one_are_told(wrong):
  with pytest.raises(UserError, match=r"[a-z]+ -?\d"):
    slurm.Nodes(**{"nodes": 1, "gpus": 1, **wrong})
