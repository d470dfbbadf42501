"""`launch/worker.sh` with programs in the places of pip and omni: what a host's status says to its launcher."""

import pathlib
import shutil
import signal
import subprocess
import time

import pytest

LAUNCH = pathlib.Path("launch")
OMNI = """#!/usr/bin/env bash
echo "$*" >> said
[ "$1 $2" = "pod env" ] && { echo "export FROM_ENV='a b'"; exit ${ENV_STATUS:-0}; }
[ "$1 $2" = "pod preflight" ] && exit ${PREFLIGHT_STATUS:-0}
"""
TRAIN = 'echo "$FROM_ENV" > environment; exit ${TRAIN_STATUS:-0}\n'
# Saves for a while when a signal comes, as a training does.
SAVING = """trap 'sleep 0.3; touch saved; exit 143' TERM
touch begun
while :; do sleep 0.05; done
"""


@pytest.fixture
def checkout(tmp_path):
  """A checkout whose environment is installed, with an `omni` that notes what it is asked."""
  (tmp_path / "launch").mkdir()
  for name in ("worker.sh", "setup.sh"):
    shutil.copy(LAUNCH / name, tmp_path / "launch" / name)
  shutil.copy("setup.py", tmp_path)
  write(tmp_path / ".venv/bin/omni", OMNI + TRAIN)
  (tmp_path / ".venv" / f".installed-train-tpu-{checksum(tmp_path / 'setup.py')}").touch()
  return tmp_path


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


def checksum(path):
  return subprocess.run(["cksum"], stdin=path.open(), capture_output=True, text=True, check=True).stdout.split()[0]


def worker(checkout, **environment):
  words = ["bash", "launch/worker.sh", "v5e-16", "--config", "a b.py:c", "--workdir", "w"]
  known = {"PATH": "/usr/bin:/bin", "HOME": str(checkout), **environment}
  return subprocess.Popen(words, cwd=checkout, env=known)


def test_a_host_is_checked_and_then_trains_in_the_environment_of_its_machine(checkout):
  assert worker(checkout).wait(30) == 0
  said = (checkout / "said").read_text().splitlines()
  assert said == [
    "pod env --machine v5e-16",
    "pod preflight --machine v5e-16",
    "train --config a b.py:c --workdir w",
  ]
  assert (checkout / "environment").read_text() == "a b\n"


@pytest.mark.parametrize(
  ("environment", "status", "asked"),
  [
    ({"ENV_STATUS": "2"}, 2, 1),
    ({"PREFLIGHT_STATUS": "42"}, 42, 2),
    ({"PREFLIGHT_STATUS": "2"}, 2, 2),
    ({"TRAIN_STATUS": "2"}, 2, 3),
    ({"TRAIN_STATUS": "137"}, 137, 3),
  ],
)
def test_the_status_of_what_failed_is_the_hosts(checkout, environment, status, asked):
  assert worker(checkout, **environment).wait(30) == status
  assert len((checkout / "said").read_text().splitlines()) == asked


def test_packages_that_cannot_be_fetched_may_be_fetched_elsewhere(checkout):
  shutil.rmtree(checkout / ".venv")
  write(checkout / ".venv/bin/python", "#!/usr/bin/env bash\nexit 1\n")
  assert worker(checkout).wait(30) == 42
  assert not list((checkout / ".venv").glob(".installed-*")), "what failed is not taken for done the next time"


def test_a_signal_waits_until_the_step_is_saved_even_if_it_comes_twice(checkout):
  write(checkout / ".venv/bin/omni", OMNI + SAVING)
  process = worker(checkout)
  limit = time.monotonic() + 30
  while not (checkout / "begun").exists() and time.monotonic() < limit:
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  assert process.wait(30) == 143
  assert (checkout / "saved").exists()
