import pytest

from omni_jax.convert.folders import read_json, write_json
from omni_jax.core.errors import UserError


def test_json_comes_back_and_what_is_missing_is_told(tmp_path):
  write_json(tmp_path / "config.json", {"a": [1, "b"]})
  assert read_json(tmp_path / "config.json") == {"a": [1, "b"]}
  with pytest.raises(UserError, match=r"other\.json"):
    read_json(tmp_path / "other.json")
