"""What `omni plan` refuses before it compiles; plans themselves: tests/plan."""

import pytest

from omni_jax.cli.main import main


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--executable", "step", "--quick"], "--executable with --quick"),
    (["--executable", "step", "--search", "2"], "--executable with --quick or --search"),
    (["--scaling", "--search", "2"], "--scaling with --search"),
    (["--scaling", "--json", "plan.json", "--html", "plan.html"], "--scaling with --json and --html"),
    (["--scaling", "--executable", "step"], "--scaling with --executable"),
  ],
)
def test_flags_that_cannot_be_kept_together_are_told(flags, message, tmp_path, capsys):
  words = ["plan", "--config", "nothing.py:run", "--workdir", str(tmp_path), "--topology", "v5e-8"]
  assert main([*words, *flags]) == 2
  assert message in capsys.readouterr().err
