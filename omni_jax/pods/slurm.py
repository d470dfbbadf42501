"""A Slurm job for GPU machines: one process for each GPU, put back into the queue when it is preempted."""

import dataclasses
import shlex

from omni_jax.core.errors import UserError
from omni_jax.pods.commands import Command, Runner
from omni_jax.pods.job import GRACE_SECONDS, RETRY_STATUS, Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nodes:
  """Machines of a cluster.

  Attributes:
    nodes: number of machines.
    gpus: of each.
    hours: the job may run at a time; it goes on in the next one.
    partition: of the cluster; empty: its default.
  """

  nodes: int
  gpus: int
  hours: int = 24
  partition: str = ""

  def __post_init__(self):
    low = [
      f"{name} {value}" for name, value in dataclasses.asdict(self).items() if isinstance(value, int) and value < 1
    ]
    if low:
      raise UserError(", ".join(low), where="slurm", rule="nodes, gpus and hours are at least 1", remedy="change it")


def launch(job: Job, nodes: Nodes, *, runner: Runner) -> None:
  """Submits a job; Slurm does the rest.

  Raises:
    UserError: a command failed.
  """
  runner.run(Command(("sbatch",), f"submit {nodes.nodes} machines of {nodes.gpus} GPUs", script(job, nodes)))


def script(job: Job, nodes: Nodes) -> str:
  """Returns the batch script; it is submitted in a checkout that all machines see."""
  partition = f"#SBATCH --partition={nodes.partition}\n" if nodes.partition else ""
  return f"""#!/usr/bin/env bash
#SBATCH --job-name={job.name}
#SBATCH --nodes={nodes.nodes}
#SBATCH --ntasks-per-node={nodes.gpus}
#SBATCH --gpus-per-node={nodes.gpus}
#SBATCH --exclusive
#SBATCH --time={nodes.hours}:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={job.name}-%j.log
#SBATCH --signal=TERM@{GRACE_SECONDS}
{partition}set -uo pipefail
# One machine installs; then every task finds it done.
srun --nodes=1 --ntasks=1 bash -c 'source launch/setup.sh train-cuda' || exit 1
srun --kill-on-bad-exit=1 {shlex.join(job.worker("gpu"))}
status=$?
# Out of time, taken away, or a lost machine: the same job again, as often as asked.
if [ "$status" -eq {RETRY_STATUS} ] || [ "$status" -ge 128 ]; then
  [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.retries} ] && scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""
