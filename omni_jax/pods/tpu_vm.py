"""TPU virtual machines by queued resources: asked for, waited for, followed, asked for again when they are taken away.

The work lies in the startup script, not in an ssh session: a machine that is replaced starts it by itself, and the
training goes on from its last checkpoint. How an attempt ended is a small file in the bucket.
"""

import dataclasses
import shlex

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology
from omni_jax.pods.commands import Command, CommandFailed, Runner
from omni_jax.pods.job import RETRY_STATUS, Job, is_tried_again

_POLL_SECONDS = 30
_WAITING = ("ACCEPTED", "CREATING", "PROVISIONING", "WAITING_FOR_RESOURCES", "ACTIVATING", "")
_LOST = ("SUSPENDING", "SUSPENDED", "FAILED", "DELETING")
_FOLDER, _LOG, _PID = "/opt/omni_jax", "/var/log/omni_jax.log", "/run/omni_jax.pid"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
  """Where machines are rented.

  Attributes:
    project: of Google Cloud.
    zone: with this generation.
    bucket: `gs://...` for the source and for how attempts ended; also mounted at /mnt/bucket on every host.
    capacity: `spot` (cheap, may be taken away), `reserved`, or `on-demand`.
  """

  project: str
  zone: str
  bucket: str
  capacity: str = "on-demand"

  def __post_init__(self):
    if not self.bucket.startswith("gs://") or len(self.bucket) < len("gs://x") or self.bucket.endswith("/"):
      raise UserError(
        f"bucket {self.bucket!r}", where="--bucket", rule="gs://NAME or gs://NAME/FOLDER", remedy="change it"
      )
    if self.capacity not in ("spot", "reserved", "on-demand"):
      raise UserError(
        f"capacity {self.capacity!r}", where="--capacity", rule="spot, reserved or on-demand", remedy="choose one"
      )


def launch(job: Job, topology: Topology, *, place: Place, stamp: str, runner: Runner) -> None:
  """Runs a job to its end, and deletes its machines then.

  Args:
    job: what to train.
    topology: on what.
    place: where.
    stamp: tells this launch from earlier ones of the same name, for example the time.
    runner: of the commands.

  Raises:
    UserError: a command failed, the training ended with a fault of its own, or retries are used up.
  """
  folder = f"{place.bucket}/{job.name}/{stamp}"
  _upload(job, folder, runner)
  for attempt in range(job.retries + 1):
    status_file = f"{folder}/status-{attempt}"
    runner.run(_create(job, topology, place=place, script=startup_script(job, topology, folder, status_file)))
    try:
      status = _see_through(job, topology, place=place, status_file=status_file, runner=runner)
    finally:
      runner.run(_command(job, place, "delete", "--force", "--quiet", why="give the machines back"))
    if status == 0:
      return
    if status is not None and not is_tried_again(status):
      raise UserError(
        f"the training ended with status {status}",
        where=f"{folder}/log-{attempt}",
        rule=f"0 is done; {RETRY_STATUS}, signals and lost machines are tried again",
        remedy="read the log there; the same command goes on from the last checkpoint",
      )
  raise UserError(
    f"{job.retries + 1} attempts were lost",
    where=folder,
    rule="--retries says how often machines may be taken away",
    remedy="choose another zone or capacity; the same command goes on from the last checkpoint",
  )


def startup_script(job: Job, topology: Topology, folder: str, status_file: str) -> str:
  """Returns what every machine runs when it starts, as root."""
  bucket = folder.removeprefix("gs://").split("/")[0]
  log_file = status_file.replace("/status-", "/log-")
  return f"""#!/usr/bin/env bash
set -uo pipefail
exec >> {_LOG} 2>&1
echo $$ > {_PID}
install_gcsfuse() {{
  export GCSFUSE_REPO="gcsfuse-$(lsb_release -c -s)"
  echo "deb https://packages.cloud.google.com/apt $GCSFUSE_REPO main" > /etc/apt/sources.list.d/gcsfuse.list
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | apt-key add -
  apt-get update -qq && apt-get install -y -qq gcsfuse
}}
command -v gcsfuse > /dev/null || install_gcsfuse
# The machines' own Python is that of Ubuntu 22.04, 3.10.
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {{
  apt-get update -qq && apt-get install -y -qq python3.11 python3.11-venv
  export PYTHON=python3.11
}}
mkdir -p /mnt/bucket {_FOLDER}
mountpoint -q /mnt/bucket || gcsfuse --implicit-dirs {shlex.quote(bucket)} /mnt/bucket
gcloud storage cp {shlex.quote(folder + "/source.tar.gz")} - | tar xz -C {_FOLDER}
cd {_FOLDER}
{shlex.join(job.worker(topology.name))}
status=$?
# One host tells how the attempt ended: the launcher waits for it as long as the machines are there.
worker=$(curl -fs -H Metadata-Flavor:Google \
  http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)
if [ "$worker" = 0 ]; then
  gcloud storage cp {_LOG} {shlex.quote(log_file)}
  echo $status | gcloud storage cp - {shlex.quote(status_file)}
fi
"""


def _upload(job: Job, folder: str, runner: Runner) -> None:
  archive = f"/tmp/{job.name}.tar.gz"
  runner.run(Command(("git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"), "pack the committed source"))
  runner.run(Command(("gcloud", "storage", "cp", archive, f"{folder}/source.tar.gz"), "every machine reads it there"))


def _create(job: Job, topology: Topology, *, place: Place, script: str) -> Command:
  nodes = (f"--node-id={job.name}",)
  if topology.slices > 1:
    nodes = (f"--node-prefix={job.name}", f"--node-count={topology.slices}")
  capacity = () if place.capacity == "on-demand" else (f"--{place.capacity}",)
  command = _command(
    job, place, "create", *nodes, f"--accelerator-type={topology.accelerator_type}",
    f"--runtime-version={topology.generation.runtime}", *capacity, "--metadata-from-file=startup-script=/dev/stdin",
    why=f"ask for {topology.hosts} machines with {topology.chips} chips",
  )  # fmt: skip
  return command._replace(input=script)


def _see_through(job: Job, topology: Topology, *, place: Place, status_file: str, runner: Runner) -> int | None:
  """Returns how an attempt ended, None if its machines were lost."""
  node = job.name if topology.slices == 1 else f"{job.name}-0"
  follow = Command(
    (
      "gcloud", "compute", "tpus", "tpu-vm", "ssh", node, f"--project={place.project}", f"--zone={place.zone}",
      "--worker=0", "--ssh-flag=-o ServerAliveInterval=30",
      f"--command=sudo tail -n +1 -F {_LOG} --pid=$(cat {_PID})",
    ),
    "show the log of the first host",
  )  # fmt: skip
  while True:
    state = runner.run(_command(job, place, "describe", "--format=value(state.state)", why="ask how it stands"))
    if state == "ACTIVE":
      runner.follow(follow)
      status = _read_status(status_file, runner)
      if status is not None:
        return status
    elif state in _LOST:
      return None
    elif state not in _WAITING:
      raise UserError(
        f"state {state!r}", where=job.name, rule=f"{', '.join(_WAITING[:-1])}, ACTIVE, {', '.join(_LOST)}",
        remedy="look at the queued resource in the console",
      )  # fmt: skip
    runner.sleep(_POLL_SECONDS)


def _read_status(status_file: str, runner: Runner) -> int | None:
  try:
    text = runner.run(Command(("gcloud", "storage", "cat", status_file), "read how the attempt ended, if it has"))
  except CommandFailed:
    return None  # not written yet: the ssh connection broke, or the machine was taken away
  return int(text) if text.isdecimal() else None


def _command(job: Job, place: Place, verb: str, *words: str, why: str) -> Command:
  begin = ("gcloud", "compute", "tpus", "queued-resources", verb, job.name)
  return Command((*begin, f"--project={place.project}", f"--zone={place.zone}", *words), why)
