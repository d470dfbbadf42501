import shlex
import subprocess
import sys

import pytest

from omni_jax.cli.main import VERBS, main, make_parser


def test_help_is_a_table_of_contents(capsys):
  with pytest.raises(SystemExit) as stop:
    main(["--help"])
  assert stop.value.code == 0
  text = capsys.readouterr().out
  assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_an_example_that_parses(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    main([verb, "--help"])
  assert stop.value.code == 0
  example = capsys.readouterr().out.split("example:")[1].strip().splitlines()[0]
  words = shlex.split(example)
  assert words[0] == "omni" and words[1] == verb
  make_parser(verb).parse_args(words[1:])


def test_help_does_not_load_jax():
  code = "import sys, omni_jax.cli.main as m; m.make_parser(None); sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
