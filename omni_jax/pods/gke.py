"""A JobSet for TPU slices on GKE: one job for each slice, one pod for each host, restarted together.

Written as JSON, which kubectl reads like YAML. Which statuses of a pod start the set again, and which end it, stands in
the manifest: lost hosts and signals do, a fault of the run does not.
"""

import dataclasses
import json
from typing import Any

from omni_jax.core.topologies import Topology
from omni_jax.pods.commands import Command, Runner
from omni_jax.pods.job import GRACE_SECONDS, RETRY_STATUS, Job

_CONTAINER = "train"
# 127: the container's program could not start; from 128 on: ended by a signal.
_TRIED_AGAIN = [RETRY_STATUS, *range(127, 256)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
  """Where pods run.

  Attributes:
    image: with the repository at its working folder (`launch/Containerfile`).
    namespace: of Kubernetes.
    queue: a Kueue local queue; empty: none.
    bucket: mounted at /mnt/bucket by GKE's storage driver; empty: none.
    service_account: of the pods, with access to the bucket.
  """

  image: str
  namespace: str = "default"
  queue: str = ""
  bucket: str = ""
  service_account: str = "default"


def launch(job: Job, topology: Topology, *, cluster: Cluster, runner: Runner) -> None:
  """Submits a job and follows the first host's log; deleting is the user's (`kubectl delete jobset NAME`).

  Raises:
    UserError: a command failed.
  """
  text = json.dumps(manifest(job, topology, cluster=cluster), indent=2)
  space = f"--namespace={cluster.namespace}"
  runner.run(Command(("kubectl", "apply", space, "-f", "-"), f"submit {topology.hosts} pods", text))
  chosen = f"jobset.sigs.k8s.io/jobset-name={job.name},batch.kubernetes.io/job-completion-index=0"
  runner.run(
    Command(
      ("kubectl", "wait", space, "pod", f"--selector={chosen}", "--for=condition=Ready", "--timeout=24h"),
      "wait for machines",
    )
  )
  runner.follow(
    Command(("kubectl", "logs", space, f"--selector={chosen}", "--follow", "--tail=-1"), "show the first hosts' logs")
  )


def manifest(job: Job, topology: Topology, *, cluster: Cluster) -> dict[str, Any]:
  """Returns the JobSet (jobset.x-k8s.io/v1alpha2)."""
  labels = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue else {}
  return {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {
      "name": job.name,
      "namespace": cluster.namespace,
      "labels": labels,
      # A slice's pods share one node pool, and no two slices the same.
      "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
    },
    "spec": {
      "failurePolicy": {  # the controller refuses a rule whose name has a hyphen
        "maxRestarts": job.retries,
        "rules": [{"name": "fault_of_the_run", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
      },
      "replicatedJobs": [
        {"name": "slice", "replicas": topology.slices, "template": _slice(job, topology, cluster=cluster)}
      ],
    },
  }


def _slice(job: Job, topology: Topology, *, cluster: Cluster) -> dict[str, Any]:
  faults = {"containerName": _CONTAINER, "operator": "NotIn", "values": _TRIED_AGAIN}
  return {
    "spec": {
      "parallelism": topology.hosts_per_slice,
      "completions": topology.hosts_per_slice,
      "completionMode": "Indexed",
      "backoffLimit": 0,  # the set starts again as a whole: a slice without one of its hosts cannot go on
      "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": faults}]},
      "template": {
        "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"} if cluster.bucket else {}},
        "spec": _pod(job, topology, cluster=cluster),
      },
    }
  }


def _pod(job: Job, topology: Topology, *, cluster: Cluster) -> dict[str, Any]:
  chips = {"google.com/tpu": topology.chips_per_host}
  volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
  mounts = [{"name": "shm", "mountPath": "/dev/shm"}]  # what the hosts' processes of one pod share
  if cluster.bucket:
    driver = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": {"bucketName": cluster.bucket}}
    volumes.append({"name": "bucket", "csi": driver})
    mounts.append({"name": "bucket", "mountPath": "/mnt/bucket"})
  return {
    "restartPolicy": "Never",
    "hostNetwork": True,  # transfers between hosts do not pass through the pods' network
    "dnsPolicy": "ClusterFirstWithHostNet",
    "serviceAccountName": cluster.service_account,
    "terminationGracePeriodSeconds": GRACE_SECONDS,
    "nodeSelector": {
      "cloud.google.com/gke-tpu-accelerator": topology.generation.node_label,
      "cloud.google.com/gke-tpu-topology": topology.node_topology,
    },
    "containers": [
      {
        "name": _CONTAINER,
        "image": cluster.image,
        "command": list(job.worker(topology.name)),
        "securityContext": {"privileged": True},  # chips are devices of the host
        "ports": [{"containerPort": 8471}, {"containerPort": 8482}, {"containerPort": 8080}],
        "resources": {"requests": chips, "limits": chips},
        "volumeMounts": mounts,
      }
    ],
    "volumes": volumes,
  }
