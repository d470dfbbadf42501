"""Run `omni train` on rented machines: the same command on every host, of a TPU slice, of GKE or of Slurm.

What stands behind `--` goes to `omni train`. Machines are asked for, the committed source is sent, the training is
followed, started again when machines are taken away, and machines are given back. `--dry-run` prints every command and
manifest instead. Hosts see a bucket at /mnt/bucket: put the working folder there.
"""

import argparse
import shlex
import sys
import time

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import find_topology
from omni_jax.pods import flags, gke, machine, slurm, tpu_vm
from omni_jax.pods.commands import DryRun, Shell
from omni_jax.pods.job import RETRY_STATUS, Job, exports

EXAMPLE = (
  "omni pod tpu-vm --name align --machine v5p-128 --project P --zone us-east5-a --bucket gs://B --dry-run -- "
  "--config configs/emova/full.py:emova_7b_align --workdir /mnt/bucket/emova"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni pod`."""
  kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
  job = argparse.ArgumentParser(add_help=False)
  job.add_argument("--name", required=True, help="of the job and of what is made for it")
  job.add_argument("--retries", type=int, default=20, help="after preemptions and lost hosts (%(default)s)")
  job.add_argument("--dry-run", action="store_true", help="print commands and manifests, run nothing")
  machine = argparse.ArgumentParser(add_help=False)
  machine.add_argument("--machine", required=True, help="for example v5p-128, 2xv6e-256, gpu")
  rented = kinds.add_parser("tpu-vm", parents=[job, machine], help="TPU virtual machines by queued resources")
  for name, meaning in (("project", "of Google Cloud"), ("zone", "of the machines"), ("bucket", "gs://NAME")):
    rented.add_argument(f"--{name}", required=True, help=meaning)
  rented.add_argument("--capacity", default="on-demand", choices=("on-demand", "spot", "reserved"))
  cluster = kinds.add_parser("gke", parents=[job, machine], help="TPU slices of a GKE cluster, as a JobSet")
  cluster.add_argument("--image", required=True, help="built from launch/Containerfile")
  for name, value in (("namespace", "default"), ("queue", ""), ("bucket", ""), ("service-account", "default")):
    cluster.add_argument(f"--{name}", default=value)
  nodes = kinds.add_parser("slurm", parents=[job], help="GPU machines of a Slurm cluster")
  for name, value in (("nodes", None), ("gpus", 8), ("hours", 24)):
    nodes.add_argument(f"--{name}", type=int, required=value is None, default=value)
  nodes.add_argument("--partition", default="")
  local = kinds.add_parser("machine", parents=[job], help="several processes on this machine")
  local.add_argument("--processes", type=int, required=True)
  local.add_argument("--devices", type=int, default=0, help="CPU devices of each; 0: the devices that JAX finds")
  for kind in (rented, cluster, nodes, local):
    kind.add_argument("train", nargs=argparse.REMAINDER, metavar="-- ARGUMENTS", help="of omni train")
  kinds.add_parser("env", parents=[machine], help="print the environment of a host's processes")
  kinds.add_parser("preflight", parents=[machine], help="check on every host that the machine is whole")


def run(arguments: argparse.Namespace) -> None:
  """Launches, or does a host's part."""
  if arguments.kind == "env":
    topology = None if arguments.machine == "gpu" else find_topology(arguments.machine)
    print(exports({"JAX_PLATFORMS": "cuda,cpu"} if topology is None else flags.environment(topology)))
    return
  if arguments.kind == "preflight":
    _preflight(arguments.machine)
    return
  words = tuple(arguments.train[1:] if arguments.train[:1] == ["--"] else arguments.train)
  job = Job(name=arguments.name, train=words, retries=arguments.retries)
  if arguments.kind == "machine":
    if arguments.dry_run:
      print(f"# {arguments.processes} times, each with its JAX_PROCESS_ID\nomni train {shlex.join(job.train)}")
    else:
      machine.launch(job, processes=arguments.processes, devices=arguments.devices)
    return
  runner = DryRun() if arguments.dry_run else Shell()
  if arguments.kind == "slurm":
    nodes = slurm.Nodes(
      nodes=arguments.nodes, gpus=arguments.gpus, hours=arguments.hours, partition=arguments.partition
    )
    slurm.launch(job, nodes, runner=runner)
    return
  topology = find_topology(arguments.machine)
  if arguments.kind == "gke":
    cluster = gke.Cluster(
      image=arguments.image, namespace=arguments.namespace, queue=arguments.queue, bucket=arguments.bucket,
      service_account=arguments.service_account,
    )  # fmt: skip
    gke.launch(job, topology, cluster=cluster, runner=runner)
    return
  place = tpu_vm.Place(
    project=arguments.project, zone=arguments.zone, bucket=arguments.bucket, capacity=arguments.capacity
  )
  if arguments.dry_run:
    runner = DryRun(answers=["", "", "", "ACTIVE", "", "0"])  # pack, send, create, how it stands, log, how it ended
  stamp = "STAMP" if arguments.dry_run else time.strftime("%Y%m%d-%H%M%S", time.gmtime())
  tpu_vm.launch(job, topology, place=place, stamp=stamp, runner=runner)


def _preflight(machine: str) -> None:
  # JAX is loaded here and not above: launching needs no accelerator software.
  import jax

  from omni_jax.core import processes
  from omni_jax.pods import preflight

  try:
    processes.join()
    hosts = preflight.gather(preflight.look())
    if machine == "gpu":
      expected = jax.process_count(), jax.device_count()
    else:
      topology = find_topology(machine)
      expected = topology.hosts, topology.devices
    print(preflight.check(hosts, processes=expected[0], devices=expected[1]))
  except (preflight.LostHost, processes.MissingProcesses) as error:
    print(f"omni pod preflight: {error}", file=sys.stderr)
    sys.exit(RETRY_STATUS)
  except RuntimeError as error:  # JAX cannot reach a device of the platform it was told to use
    raise UserError(
      str(error), where=f"machine {machine}", rule="JAX reaches the accelerators of this host",
      remedy="see that no other process holds them, and that the driver is installed",
    ) from error  # fmt: skip
