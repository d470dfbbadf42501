"""JobSet manifests against the public schema of the JobSet controller; fields that it does not know are refused.

`jobset_v1alpha2.json` is `openAPIV3Schema` of kubernetes-sigs/jobset,
`config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml` (Apache 2.0), without descriptions, defaults and status.
"""

import copy
import json
import re
from pathlib import Path

import pytest

from omni_jax.core.topologies import find_topology
from omni_jax.pods import gke
from tests.pods.launches import JOB

SCHEMA = json.loads(Path(__file__).with_name("jobset_v1alpha2.json").read_text())
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
BOUNDS = {
  "enum": lambda value, allowed: value in allowed,
  "pattern": lambda value, pattern: re.search(pattern, value) is not None,
  "minimum": lambda value, least: value >= least,
  "maximum": lambda value, most: value <= most,
  "maxLength": lambda value, most: len(value) <= most,
  "minLength": lambda value, least: len(value) >= least,
  "maxItems": lambda value, most: len(value) <= most,
  "minItems": lambda value, least: len(value) >= least,
}


def faults(value, schema, where=""):
  """Yields what is wrong with a value, as the controller's API server would."""
  if schema.get("x-kubernetes-int-or-string"):
    if not isinstance(value, (int, str)):
      yield f"{where}: {value!r} is no number or text"
    return
  kind = schema.get("type")
  if kind is not None and (not isinstance(value, KINDS[kind]) or (kind != "boolean" and isinstance(value, bool))):
    yield f"{where}: {value!r} is no {kind}"
    return
  yield from (
    f"{where}: {value!r}, {name} {schema[name]}" for name, ok in BOUNDS.items() if _breaks(value, schema, name, ok)
  )
  if isinstance(value, dict) and where != ".metadata":  # which Kubernetes itself defines
    yield from _faults_of_fields(value, schema, where)
  for number, item in enumerate(value if isinstance(value, list) else ()):
    yield from faults(item, schema.get("items", {}), f"{where}[{number}]")


def _breaks(value, schema, name, is_kept):
  return name in schema and not is_kept(value, schema[name])


def _faults_of_fields(value, schema, where):
  yield from (f"{where}: {name} is missing" for name in schema.get("required", ()) if name not in value)
  known, others = schema.get("properties", {}), schema.get("additionalProperties")
  for name, item in value.items():
    if name in known:
      yield from faults(item, known[name], f"{where}.{name}")
    elif isinstance(others, dict):
      yield from faults(item, others, f"{where}.{name}")
    elif not schema.get("x-kubernetes-preserve-unknown-fields"):
      yield f"{where}: {name} is not known"


@pytest.mark.parametrize("machine", ["v5p-128", "4xv6e-16", "v5e-1", "v5e-256", "tpu7x-16"])
@pytest.mark.parametrize("cluster", [gke.Cluster(image="i"), gke.Cluster(image="i", queue="q", bucket="b")])
def test_manifests_follow_the_public_schema(machine, cluster):
  assert not list(faults(gke.manifest(JOB, find_topology(machine), cluster=cluster), SCHEMA))


def test_names_of_rules_are_those_that_the_controller_takes():
  # Not in the schema: the controller checks it on admission (its webhook's ruleNameFmt).
  made = gke.manifest(JOB, find_topology("v5p-128"), cluster=gke.Cluster(image="i"))
  names = [rule["name"] for rule in made["spec"]["failurePolicy"]["rules"]]
  assert names and all(re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", name) for name in names)


@pytest.mark.parametrize(
  ("path", "value", "told"),
  [
    (("spec", "replicatedJobz"), [], "is not known"),
    (("spec", "replicatedJobs", 0, "replicas"), "one", "is no integer"),
    (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containerz"), [], "is not known"),
    (("spec", "failurePolicy", "rules", 0, "action"), "Fail", "enum"),
    (("spec", "failurePolicy", "maxRestarts"), True, "is no integer"),
  ],
)
def test_what_the_schema_forbids_is_found(path, value, told):
  made = copy.deepcopy(gke.manifest(JOB, find_topology("v5p-128"), cluster=gke.Cluster(image="i")))
  place = made
  for name in path[:-1]:
    place = place[name]
  place[path[-1]] = value
  (fault,) = faults(made, SCHEMA)
  assert told in fault
