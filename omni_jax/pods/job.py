"""What is launched, the same for every kind of machine: a name and the arguments of `omni train`."""

import dataclasses
import re
import shlex
from collections.abc import Mapping

from omni_jax.core.errors import UserError

# Status of a process that its launcher should start again: lost chips, lost hosts, a full network. Others are faults of
# the run and end it.
RETRY_STATUS = 42
_SIGNALLED = 128  # a shell's status of a process that a signal ended is this and the signal's number
# Time that a preempted process has to save its step before it is killed.
GRACE_SECONDS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """One training.

  Attributes:
    name: of the job and of everything that is created for it.
    train: arguments of `omni train`.
    retries: how often it is started again after a preemption or a lost host.
  """

  name: str
  train: tuple[str, ...]
  retries: int = 20

  def __post_init__(self):
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
      raise UserError(
        f"name {self.name!r}",
        where="--name",
        rule="names of cloud resources are at most 40 of a-z, 0-9 and -, begin with a letter, end without -",
        remedy="choose another name",
      )
    if "--config" not in self.train or "--workdir" not in self.train:
      raise UserError(
        f"arguments of omni train: {shlex.join(self.train) or 'none'}",
        where=f"job {self.name!r}",
        rule="--config and --workdir are given",
        remedy="write them behind --: -- --config configs/emova/full.py:emova_7b_align --workdir /mnt/bucket/run",
      )
    if self.retries < 0:
      raise UserError(f"{self.retries} retries", where="--retries", rule="at least 0", remedy="change the value")

  def worker(self, machine: str) -> tuple[str, ...]:
    """Returns what every host of a machine (`v5p-128`, `gpu`) runs, in a checkout of the repository."""
    return ("bash", "launch/worker.sh", machine, *self.train)


def is_tried_again(status: int) -> bool:
  """Whether a job that ended with this status is started again: its machine failed it, or a signal ended it."""
  return status == RETRY_STATUS or status >= _SIGNALLED


def exports(environment: Mapping[str, str]) -> str:
  """Returns the environment as lines of a shell script."""
  return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())
