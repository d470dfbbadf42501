"""`omni evaluate` and `omni report`: help has an example, wrong input gives one message and exit status 2."""

import pytest

from omni_jax.cli.main import main


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_help_has_an_example(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    main([verb, "--help"])
  assert stop.value.code == 0
  assert f"omni {verb} --workdir runs/tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--system", "choir"], "unknown system 'choir'"),
    (["--tasks", "singing"], "unknown task 'singing'"),
    (["--limit", "0"], "limit 0"),
    (["--set", "colour=3"], "unknown field 'colour'"),
    ([], "no such stage"),
  ],
)
def test_wrong_input_is_told_in_one_message(flags, message, tmp_path, capsys):
  assert main(["evaluate", "--workdir", str(tmp_path), *flags]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert "remedy:" in error


def test_a_report_needs_results(tmp_path, capsys):
  assert main(["report", "--workdir", str(tmp_path)]) == 2
  assert "omni evaluate" in capsys.readouterr().err
