import dataclasses
import json
from pathlib import Path

import pytest

from omni_jax.checkpoint.card import card_difference, make_card, model_config, read_card, write_card
from omni_jax.core import config
from omni_jax.core.errors import UserError
from tests.checkpoint.tiny import TinyConfig, TinyRun, card_of


@pytest.fixture(autouse=True)
def tiny_can_be_stored(monkeypatch):
  monkeypatch.setattr(config, "_PACKAGE", "tests")


def test_the_card_knows_what_makes_two_runs_different():
  run = TinyRun(model=TinyConfig(width=4))
  card = card_of(run)
  assert card_of(dataclasses.replace(run, mesh="fsdp=8"))["fingerprint"] == card["fingerprint"]
  other = card_of(dataclasses.replace(run, model=TinyConfig(width=5), mesh="fsdp=8"), starts=("abc@3",))
  assert other["fingerprint"] != card["fingerprint"]
  assert card_difference(card, other) == ["model.width: 4 -> 5", "starts: [] -> ['abc@3']"]


def test_a_field_of_a_part_may_say_how_and_not_what():
  def card(width, steps=3):
    run = TinyRun(model=TinyConfig(width=width), steps=steps)
    return make_card(run, workdir=Path("w"), ignored=("mesh", "model.width", "folder.none"), starts=())

  assert card(4)["fingerprint"] == card(5)["fingerprint"] != card(4, steps=4)["fingerprint"]
  assert card(4)["run"]["model"]["width"] == 4, "it is stored all the same"
  assert card_difference(card(4), card(5, steps=4)) == ["steps: 3 -> 4"]


def test_the_card_of_a_moved_folder_is_the_same():
  cards = [card_of(TinyRun(model=TinyConfig(width=4), folder=f"{at}/units"), at) for at in ("runs/a", "/far/b")]
  assert cards[0]["fingerprint"] == cards[1]["fingerprint"]
  outside = card_of(TinyRun(model=TinyConfig(width=4), folder="runs/ab/units"), "runs/a")
  assert outside["run"]["folder"] == "runs/ab/units"


def test_a_damaged_card_is_told(tmp_path):
  write_card(tmp_path, card_of(TinyRun(model=TinyConfig(width=4))))
  assert model_config(tmp_path) == TinyConfig(width=4)
  (tmp_path / "run.json").write_text('{"format": 1, ')
  with pytest.raises(UserError, match="cannot read the card"):
    read_card(tmp_path)
  (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
  with pytest.raises(UserError, match="format 99"):
    read_card(tmp_path)


@pytest.mark.parametrize("changes", [{"fingerprint": None}, {"run": []}, {"starts": "a"}])
def test_a_card_with_a_field_of_another_kind_is_told(tmp_path, changes):
  write_card(tmp_path, card_of(TinyRun(model=TinyConfig(width=4))) | changes)
  with pytest.raises(UserError, match=f"cannot read the card .*{next(iter(changes))}"):
    read_card(tmp_path)


def test_a_card_without_a_field_or_a_model_is_told(tmp_path):
  card = card_of(TinyRun(model=TinyConfig(width=4)))
  write_card(tmp_path, {name: value for name, value in card.items() if name != "starts"})
  with pytest.raises(UserError, match=r"cannot read the card .*starts"):
    read_card(tmp_path)
  write_card(tmp_path, card | {"run": {}})
  with pytest.raises(UserError, match="names no model"):
    model_config(tmp_path)
