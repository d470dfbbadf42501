import json

import pytest

from omni_jax.core.topologies import find_topology
from omni_jax.pods import gke
from omni_jax.pods.commands import DryRun
from tests.pods.launches import JOB

CLUSTER = gke.Cluster(image="r/omni_jax:1", queue="team", bucket="b")


@pytest.mark.parametrize(
  ("machine", "slices", "hosts", "chips", "label", "shape"),
  [
    ("v5p-128", 1, 16, 4, "tpu-v5p-slice", "4x4x4"),
    ("4xv6e-16", 4, 4, 4, "tpu-v6e-slice", "4x4"),
    ("v5e-1", 1, 1, 1, "tpu-v5-lite-podslice", "1x1"),
  ],
)
def test_there_is_a_pod_for_every_host(machine, slices, hosts, chips, label, shape):
  made = gke.manifest(JOB, find_topology(machine), cluster=CLUSTER)
  (replicated,) = made["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  assert replicated["replicas"] == slices and job["parallelism"] == job["completions"] == hosts
  assert container["resources"]["limits"] == {"google.com/tpu": chips}
  assert list(pod["nodeSelector"].values()) == [label, shape]
  assert container["command"][:3] == ["bash", "launch/worker.sh", machine]
  mounted = {mount["name"] for mount in container["volumeMounts"]}
  assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_lost_hosts_and_signals_start_the_set_again_and_faults_do_not():
  made = gke.manifest(JOB, find_topology("v5p-128"), cluster=CLUSTER)
  assert made["spec"]["failurePolicy"]["maxRestarts"] == JOB.retries
  (rule,) = made["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
  assert rule["action"] == "FailJob" and rule["onExitCodes"]["operator"] == "NotIn"
  again = set(rule["onExitCodes"]["values"])
  assert {42, 137, 143} <= again and not again & {0, 1, 2}
  assert len(again) <= 255  # the most that Kubernetes takes


def test_what_is_not_asked_for_is_not_in_the_manifest():
  text = json.dumps(gke.manifest(JOB, find_topology("v5p-8"), cluster=gke.Cluster(image="i")))
  assert "gcsfuse" not in text and "kueue" not in text


def test_a_launch_submits_the_manifest():
  dry = DryRun()
  gke.launch(JOB, find_topology("v5p-8"), cluster=CLUSTER, runner=dry)
  assert dry.commands[0].words[:2] == ("kubectl", "apply")
  assert json.loads(dry.commands[0].input)["metadata"]["name"] == "align"
