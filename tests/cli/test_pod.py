import jax
import pytest

from omni_jax.cli.main import main

TRAIN = ["--", "--config", "configs/emova/full.py:emova_7b_align", "--workdir", "/mnt/bucket/run"]
RENTED = ["--project", "p", "--zone", "z", "--bucket", "gs://b"]


@pytest.mark.parametrize(
  ("words", "wanted"),
  [
    (["tpu-vm", "--machine", "v5p-128", *RENTED], "--accelerator-type=v5p-128"),
    (["tpu-vm", "--machine", "v5p-128", *RENTED, "--capacity", "spot"], "--spot"),
    (["gke", "--machine", "v6e-256", "--image", "i"], '"cloud.google.com/gke-tpu-topology": "16x16"'),
    (["slurm", "--nodes", "4"], "#SBATCH --nodes=4"),
    (["machine", "--processes", "4"], "# 4 times"),
  ],
)
def test_a_dry_run_prints_what_would_be_done(words, wanted, capsys):
  assert main(["pod", *words, "--name", "align", "--dry-run", *TRAIN]) == 0
  printed = capsys.readouterr().out
  assert wanted in printed and "configs/emova/full.py:emova_7b_align" in printed


def test_the_environment_is_printed_for_a_shell(capsys):
  assert main(["pod", "env", "--machine", "v5p-8"]) == 0
  assert "export JAX_PLATFORMS=tpu,cpu\n" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("words", "told"),
  [
    (["tpu-vm", "--machine", "v5e-512", *RENTED, "--name", "a", *TRAIN], "unknown machine 'v5e-512'"),
    (["slurm", "--nodes", "1", "--name", "a"], "--config and --workdir are given"),
    (["env", "--machine", "h100"], "unknown machine 'h100'"),
  ],
)
def test_what_cannot_be_launched_is_told(words, told, capsys):
  assert main(["pod", *words]) == 2
  assert told in capsys.readouterr().err


def test_a_host_that_misses_devices_asks_to_be_started_elsewhere(capsys):
  # This machine is one process, a slice of v5p-128 sixteen.
  with pytest.raises(SystemExit) as stop:
    main(["pod", "preflight", "--machine", "v5p-128"])
  assert stop.value.code == 42 and "this machine has 16" in capsys.readouterr().err


def test_a_host_whose_others_do_not_come_asks_to_be_started_elsewhere(monkeypatch, capsys):
  def wait_in_vain(**_):
    raise RuntimeError("DEADLINE_EXCEEDED")

  monkeypatch.setattr(jax.distributed, "initialize", wait_in_vain)
  for name, value in (("COORDINATOR_ADDRESS", "localhost:1"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "1")):
    monkeypatch.setenv(f"JAX_{name}", value)
  with pytest.raises(SystemExit) as stop:
    main(["pod", "preflight", "--machine", "v5p-128"])
  assert stop.value.code == 42 and "DEADLINE_EXCEEDED" in capsys.readouterr().err
