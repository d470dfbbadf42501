import subprocess

import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import find_topology
from omni_jax.pods import tpu_vm
from omni_jax.pods.commands import DryRun
from tests.pods.launches import JOB, PLACE, Cloud


def launch(cloud, machine="v5p-128"):
  tpu_vm.launch(JOB, find_topology(machine), place=PLACE, stamp="t", runner=cloud)


def test_machines_are_given_back_when_the_training_is_done():
  cloud = Cloud(states=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"], statuses=["0"])
  launch(cloud)
  assert cloud.verbs == ["create", "describe", "describe", "describe", "log", "delete"] and cloud.waited == 2


@pytest.mark.parametrize("how", ["while waiting", "while training", "with a status", "by a signal"])
def test_lost_machines_are_asked_for_again(how):
  states, statuses = {
    "while waiting": (["FAILED", "ACTIVE"], ["0"]),
    "while training": (["ACTIVE", "SUSPENDED", "ACTIVE"], [None, "0"]),
    "with a status": (["ACTIVE", "ACTIVE"], ["42", "0"]),
    "by a signal": (["ACTIVE", "ACTIVE"], ["137", "0"]),
  }[how]
  cloud = Cloud(states=states, statuses=statuses)
  launch(cloud)
  assert cloud.verbs.count("create") == cloud.verbs.count("delete") == 2
  assert not cloud.states and not cloud.statuses


def test_a_broken_connection_is_taken_up_again():
  cloud = Cloud(states=["ACTIVE", "ACTIVE"], statuses=[None, "0"])
  launch(cloud)
  assert cloud.verbs.count("log") == 2 and cloud.verbs.count("create") == 1


def test_a_fault_of_the_run_is_not_tried_again():
  cloud = Cloud(states=["ACTIVE"], statuses=["2"])
  with pytest.raises(UserError, match=r"status 2[\s\S]*gs://b/align/t/log-0"):
    launch(cloud)
  assert cloud.verbs[-1] == "delete" and cloud.verbs.count("create") == 1


def test_retries_end():
  cloud = Cloud(states=["FAILED"] * 3, statuses=[])
  with pytest.raises(UserError, match="3 attempts were lost"):
    launch(cloud)
  assert cloud.verbs.count("create") == cloud.verbs.count("delete") == 3


def test_a_state_that_nobody_knows_gives_the_machines_back():
  cloud = Cloud(states=["MELTED"], statuses=[])
  with pytest.raises(UserError, match="MELTED"):
    launch(cloud)
  assert cloud.verbs[-1] == "delete"


@pytest.mark.parametrize(
  ("machine", "words"),
  [
    ("v5e-16", ["--node-id=align", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"]),
    ("2xv6e-256", ["--node-prefix=align", "--node-count=2", "--accelerator-type=v6e-256"]),
  ],
)
def test_a_dry_run_prints_what_is_asked_for(machine, words, capsys):
  dry = DryRun(answers=["", "", "", "ACTIVE", "", "0"])
  tpu_vm.launch(JOB, find_topology(machine), place=PLACE, stamp="t", runner=dry)
  (create,) = [command for command in dry.commands if "create" in command.words]
  assert set(words) <= set(create.words)
  printed = capsys.readouterr().out
  assert all(str(command) in printed for command in dry.commands)
  assert f"bash launch/worker.sh {machine} --config configs/emova/full.py:emova_7b_align" in printed


def test_the_startup_script_is_bash_and_quotes_what_it_is_given():
  topology = find_topology("v5e-4")
  script = tpu_vm.startup_script(JOB, topology, "gs://b/it's here", "gs://b/it's here/status-0")
  subprocess.run(["bash", "-n"], input=script, text=True, check=True)
  assert """'gs://b/it'"'"'s here/source.tar.gz'""" in script


@pytest.mark.parametrize("status", [0, 2, 137])
def test_the_first_host_tells_how_the_attempt_ended_whatever_the_status(tmp_path, status):
  script = tpu_vm.startup_script(JOB, find_topology("v5e-4"), "gs://b/f", "gs://b/f/status-0")
  end = script[script.index("# One host tells") :]
  stand_ins = f"status={status}; curl() {{ echo 0; }}; gcloud() {{ [ $3 != - ] || cat > {tmp_path}/status; }}\n"
  subprocess.run(["bash", "-uc", stand_ins + end], check=True)
  assert (tmp_path / "status").read_text() == f"{status}\n"


@pytest.mark.parametrize(("field", "value"), [("bucket", "b"), ("bucket", "gs://b/"), ("capacity", "free")])
def test_a_place_that_cannot_be_is_told(field, value):
  with pytest.raises(UserError, match=f"{field} '{value}'"):
    tpu_vm.Place(**{"project": "p", "zone": "z", "bucket": "gs://b", field: value})
