"""launch/quickstart.sh: its arguments; its steps are run by hand, they take minutes."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / "launch" / "quickstart.sh"


def start(*flags):
  return subprocess.run(["bash", str(SCRIPT), *flags], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--system", "choir"], "unknown system 'choir' (known: emova, mini_omni, speech_gpt)"),
    (["--sistem", "emova"], "unknown argument '--sistem'"),
    (["--system"], "--system needs a name"),
    (["--workdir"], "--workdir needs a folder"),
  ],
)
def test_wrong_arguments_are_told_before_anything_is_done(flags, message):
  done = start(*flags)
  assert done.returncode != 0 and message in done.stderr and not done.stdout


def test_help_names_every_system():
  done = start("--help")
  assert done.returncode == 0 and not done.stderr
  assert all(f"  {system} " in done.stdout for system in ("emova", "mini_omni", "speech_gpt"))
  assert "set -euo" not in done.stdout


def test_every_stage_that_is_trained_has_a_config():
  trained = re.findall(r"^ +train (\w+)(?: ([\w/]+))?$", SCRIPT.read_text(), flags=re.MULTILINE)
  assert len(trained) > 15
  for stage, config in trained:
    text = (ROOT / "configs" / f"{config or f'emova/{stage}'}.py").read_text()
    assert "def tiny(" in text and "def smoke(" in text, stage
