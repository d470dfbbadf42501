import pytest

from omni_jax.convert.folders import read_json, values_of, write_json
from omni_jax.core.errors import UserError


def test_json_comes_back_and_what_is_missing_is_told(tmp_path):
  write_json(tmp_path / "config.json", {"a": [1, "b"]})
  assert read_json(tmp_path / "config.json") == {"a": [1, "b"]}
  with pytest.raises(UserError, match=r"other\.json"):
    read_json(tmp_path / "other.json")
  for text in ("[1, 2]", '"qwen2"', "{"):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"cannot read config\.json"):
      read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
  "use",
  [
    lambda card: card["depth"],
    lambda card: card["width"] // 2,
    lambda card: card["taps"].get(1),
    lambda card: tuple(card["rate"]),
  ],
)
def test_values_of_the_wrong_kind_are_told_with_their_file(tmp_path, use):
  told = r"cannot use the values of config\.json \((KeyError|AttributeError|TypeError)"
  with pytest.raises(UserError, match=told), values_of(tmp_path / "config.json"):
    use({"width": "12", "taps": [1], "rate": 3})
  with values_of(tmp_path / "config.json"), pytest.raises(UserError, match="told"):
    raise UserError("told", where="", rule="", remedy="")
