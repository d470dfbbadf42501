import subprocess

import pytest

from omni_jax.core.errors import UserError
from omni_jax.pods.commands import Command, CommandFailed, Shell
from omni_jax.pods.job import Job, exports, is_tried_again

TRAIN = ("--config", "a.py:b", "--workdir", "w")


@pytest.mark.parametrize("name", ["", "Align", "9a", "a-", "a" * 41, "a b", "a;b"])
def test_a_name_that_no_cloud_takes_is_told(name):
  with pytest.raises(UserError, match="--name"):
    Job(name=name, train=TRAIN)


@pytest.mark.parametrize("train", [(), ("--config", "a.py:b"), ("--workdir", "w")])
def test_a_job_says_what_and_where(train):
  with pytest.raises(UserError, match="--config and --workdir"):
    Job(name="a", train=train)


def test_an_environment_survives_the_shell():
  wanted = {"LIBTPU_INIT_ARGS": "--a=1 --b='x y'", "EMPTY": ""}
  script = exports(wanted) + '\nprintf "%s|%s" "$LIBTPU_INIT_ARGS" "$EMPTY"'
  shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
  assert shown == "|".join(wanted.values())


def test_a_program_that_fails_is_told_with_what_it_said():
  with pytest.raises(CommandFailed, match=r"status 3: no room[\s\S]*to see"):
    Shell().run(Command(("bash", "-c", "echo no room >&2; exit 3"), "to see"))
  assert Shell().run(Command(("cat",), "to see", "given")) == "given"


def test_a_program_that_is_not_here_is_told():
  with pytest.raises(UserError, match="not installed"):
    Shell().run(Command(("no-such-program-here",), "to see"))


@pytest.mark.parametrize(("status", "again"), [(1, False), (2, False), (42, True), (134, True), (143, True)])
def test_lost_machines_and_signals_are_tried_again_and_faults_are_not(status, again):
  assert is_tried_again(status) is again
