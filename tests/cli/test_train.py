import pytest

from omni_jax.checkpoint.store import latest_step
from omni_jax.cli import train
from omni_jax.cli.main import main
from omni_jax.core.processes import MissingProcesses

RECIPE = """
from tests.train.toy import make_run

def tiny(workdir):
  return make_run(steps=2)
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
  path = tmp_path_factory.mktemp("recipe") / "toy_recipe_of_tests.py"
  path.write_text(RECIPE)
  return f"{path}:tiny"


@pytest.fixture(autouse=True)
def cache_is_asked_for(monkeypatch):
  """Leaves this process's own compilation cache as it is; returns how often the verb asked for one."""
  asked = []
  monkeypatch.setattr(train, "enable_compilation_cache", lambda: asked.append(1))
  return asked


def test_a_stage_is_trained_from_the_command_line(recipe, tmp_path, capsys, cache_is_asked_for):
  command = ["train", "--config", recipe, "--workdir", str(tmp_path)]
  assert main(command) == 0
  stage = tmp_path / "stages/toy"
  assert capsys.readouterr().out.splitlines()[-1] == str(stage)
  assert latest_step(stage) == 2 and cache_is_asked_for
  assert main([*command, "--set", "steps=3"]) == 2
  assert "steps: 2 -> 3" in capsys.readouterr().err
  assert main([*command, "--set", "steps=3", "--overwrite", "--mesh", "fsdp=1"]) == 0
  assert latest_step(stage) == 3


def test_wrong_flags_are_told(recipe, tmp_path, capsys):
  command = ["train", "--config", recipe, "--workdir", str(tmp_path)]
  assert main([*command, "--set", "stepz=2"]) == 2
  assert "unknown field 'stepz'" in capsys.readouterr().err
  assert main([*command, "--mesh", "fsdp=7"]) == 2
  assert "number of devices" in capsys.readouterr().err


def test_peers_that_do_not_come_end_with_that_status_too(recipe, tmp_path, monkeypatch, capsys):
  def miss():
    raise MissingProcesses("nobody came", where="here", rule="all come", remedy="start them")

  monkeypatch.setattr(train.processes, "join", miss)
  with pytest.raises(SystemExit) as left:
    main(["train", "--config", recipe, "--workdir", str(tmp_path)])
  assert left.value.code == 42 and "nobody came" in capsys.readouterr().err


def test_a_lost_peer_ends_with_the_status_that_launchers_start_again(recipe, tmp_path, monkeypatch, capsys):
  def fail(*_, **__):
    raise ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer [127.0.0.1]:1")

  class Left(BaseException):
    pass

  def leave(status):
    raise Left(status)

  monkeypatch.setattr(train, "train", fail)
  monkeypatch.setattr(train.os, "_exit", leave)
  command = ["train", "--config", recipe, "--workdir", str(tmp_path)]
  with pytest.raises(ValueError, match="Gloo"):
    main(command)
  monkeypatch.setattr(train.jax, "process_count", lambda: 2)
  with pytest.raises(Left, match="42"):
    main(command)
  assert "another process is gone" in capsys.readouterr().err
