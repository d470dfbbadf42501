import dataclasses
import json

import pytest

from omni_jax.core import config
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style


def test_json_round_trip_gives_an_equal_value():
  value = (Style("male", "sad", "low"), Style("female", "happy", "high"))
  assert config.from_json(json.loads(json.dumps(config.to_json(value)))) == value


def test_functions_come_back_as_themselves():
  assert config.from_json(config.to_json(config.flatten)) is config.flatten


def test_names_outside_the_package_are_refused():
  with pytest.raises(UserError, match="only names inside omni_jax"):
    config.from_json({"function": "os:system"})


def test_stored_config_with_other_fields_is_refused():
  data = config.to_json(Style("male", "sad", "low"))
  del data["pitch"]
  data["speed"] = "slow"
  with pytest.raises(UserError, match=r"-speed \+pitch"):
    config.from_json(data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grown:
  width: int
  window: int | None = config.added(None)


def test_an_added_field_is_stored_only_where_it_is_used(monkeypatch):
  monkeypatch.setattr(config, "_PACKAGE", __name__.split(".")[0])
  stored = config.to_json(Grown(width=3))
  assert set(stored) == {"type", "width"}
  assert config.from_json(stored) == Grown(width=3)
  used = Grown(width=3, window=8)
  assert config.from_json(config.to_json(used)) == used
  assert config.fingerprint(used) != config.fingerprint(Grown(width=3))
  with pytest.raises(UserError, match=r"-depth \+width$|-depth \+width\n"):
    config.from_json({"type": stored["type"], "window": 8, "depth": 2})


def test_fingerprint_changes_with_any_field():
  prints = {config.fingerprint(Style("male", "sad", pitch)) for pitch in ("low", "normal", "high")}
  assert len(prints) == 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
  rate: float = 1e-3
  name: str = "adamw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
  inner: Inner = Inner()
  steps: int = 10


def test_replace_sets_a_nested_field_and_nothing_else():
  new = config.replace(Outer(), {"inner.rate": "1", "steps": "20"})
  assert new == Outer(inner=Inner(rate=1.0), steps=20)
  assert config.difference(Outer(), new) == ["inner.rate: 0.001 -> 1.0", "steps: 10 -> 20"]


@pytest.mark.parametrize("path,text", [("inner.rat", "1"), ("step", "1"), ("steps.more", "1"), ("steps", "many")])
def test_replace_refuses_unknown_fields_and_wrong_types(path, text):
  with pytest.raises(UserError, match=f"--set {path}={text}"):
    config.replace(Outer(), {path: text})
