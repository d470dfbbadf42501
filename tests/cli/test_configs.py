import pytest

from omni_jax.cli.configs import load_config, parse_settings
from omni_jax.core.errors import UserError
from omni_jax.train.optimizer import OptimizerConfig


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
  folder = tmp_path_factory.mktemp("configs")
  (folder / "neighbour_of_tests.py").write_text("STEPS = 7\n")
  path = folder / "recipe_of_tests.py"
  path.write_text(
    "from omni_jax.train.optimizer import OptimizerConfig\n"
    "from neighbour_of_tests import STEPS\n"
    "def tiny(rate): return OptimizerConfig(learning_rate=rate, warmup_steps=STEPS)\n"
    "def other(): return 3\n"
    "def broken(): raise KeyError('lost')\n"
  )
  return path


def test_a_function_is_found_called_and_its_fields_set(config_file):
  made = load_config(f"{config_file}:tiny", returns=OptimizerConfig, arguments=(0.5,), settings=["warmup_steps=9"])
  assert made == OptimizerConfig(learning_rate=0.5, warmup_steps=9)
  assert load_config(f"{config_file}:tiny", returns=OptimizerConfig, arguments=(0.5,)).warmup_steps == 7


@pytest.mark.parametrize(
  ("reference", "message"),
  [
    ("{}", "path/file.py:function"),
    ("{}:", "path/file.py:function"),
    ("recipe.yaml:tiny", "path/file.py:function"),
    ("missing.py:tiny", "no such file: missing.py"),
    ("{}:huge", "no function 'huge'(.|\n)*has tiny, other, broken"),
    ("{}:other", "it returned a int"),
    ("{}:broken", "KeyError: 'lost'"),
    ("{}:tiny", "TypeError"),
  ],
)
def test_what_cannot_be_loaded_is_told(config_file, reference, message):
  with pytest.raises(UserError, match=message):
    load_config(reference.format(config_file), returns=OptimizerConfig)


def test_a_file_with_an_error_is_told(tmp_path):
  (tmp_path / "wrong_syntax_of_tests.py").write_text("def tiny(:\n")
  with pytest.raises(UserError, match="SyntaxError"):
    load_config(f"{tmp_path}/wrong_syntax_of_tests.py:tiny", returns=OptimizerConfig)


def test_a_module_name_belongs_to_one_file(tmp_path):
  (tmp_path / "json.py").write_text("def tiny(): pass\n")
  with pytest.raises(UserError, match="another file is loaded"):
    load_config(f"{tmp_path}/json.py:tiny", returns=OptimizerConfig)


def test_settings_are_path_and_value():
  assert parse_settings(["a.b=1", "c=x=y"]) == {"a.b": "1", "c": "x=y"}
  with pytest.raises(UserError, match="a setting is path=value"):
    parse_settings(["steps"])
