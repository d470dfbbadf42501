"""Every command of `tools/` that a text names runs as it is written, from this folder, where omni_jax is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = sorted(ROOT.glob("tools/*.py"))
TEXTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *TOOLS, *sorted(ROOT.glob("configs/**/*.py"))]
COMMAND = re.compile(r"(?P<before>[^\s`(]* ?)python\s+tools/(?P<name>\w+)\.py(?P<flags>(?: +(?!\s|#)[^\s`#]+)*)")


def commands() -> list[tuple[str, re.Match]]:
  return [(path.name, found) for path in TEXTS for found in COMMAND.finditer(path.read_text())]


def test_commands_name_tools_and_flags_that_there_are():
  named = set()
  for text, found in commands():
    assert "PYTHONPATH" not in found["before"], f"{text}: {found[0]}"
    tool = ROOT / "tools" / f"{found['name']}.py"
    assert tool in TOOLS, f"{text}: {found[0]}"
    named.add(tool)
    source = tool.read_text()
    given = set(re.findall(r"--[\w-]+", found["flags"]))
    declared = {flag: "required=True" in rest for flag, rest in re.findall(r'add_argument\("(--[\w-]+)"(.*)', source)}
    needed = {flag for flag, required in declared.items() if required}
    assert needed <= given <= declared.keys(), f"{text}: {found[0]}"
  assert named == set(TOOLS), "every tool says how it is called"


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.stem)
def test_a_tool_runs_where_omni_jax_alone_is_installed(tool, tmp_path):
  (tmp_path / "omni_jax").symlink_to(ROOT / "omni_jax")  # as an installation has it: no configs, no tests
  environment = os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, str(tool.relative_to(ROOT)), "--help"]
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert not done.returncode, done.stderr
  assert f"usage: {tool.name}" in done.stdout
