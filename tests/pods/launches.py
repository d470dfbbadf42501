"""A cloud that answers from a script, and jobs for it."""

from omni_jax.pods.commands import Command, CommandFailed
from omni_jax.pods.job import Job
from omni_jax.pods.tpu_vm import Place

JOB = Job(
  name="align", train=("--config", "configs/emova/full.py:emova_7b_align", "--workdir", "/mnt/bucket/run"), retries=2
)
PLACE = Place(project="p", zone="us-east5-a", bucket="gs://b")


class Cloud:
  """Gives the states of the machines and the statuses of attempts, in order; None: not there."""

  def __init__(self, *, states, statuses):
    self.states, self.statuses = list(states), list(statuses)
    self.verbs, self.waited = [], 0

  def run(self, command: Command) -> str:
    words = command.words
    if "queued-resources" in words:
      self.verbs.append(words[words.index("queued-resources") + 1])
    if "describe" in words:
      return self.states.pop(0)
    if "cat" in words:
      status = self.statuses.pop(0)
      if status is None:
        raise CommandFailed(command, status=1, message="no such file")
      return status
    return ""

  def follow(self, command: Command) -> int:
    self.verbs.append("log")
    return 0

  def sleep(self, seconds: float) -> None:
    self.waited += 1
