import json

import jax.numpy as jnp
import pytest

from omni_jax.checkpoint.initialise import Start, load_starts, start_fingerprints
from omni_jax.core.errors import UserError
from tests.checkpoint.tiny import abstract, make_stage


def test_later_starts_override_earlier_ones_and_the_report_is_complete(tmp_path):
  make_stage(tmp_path / "a", value=1.0)
  make_stage(tmp_path / "b", value=2.0)
  target = abstract({"first": jnp.zeros((3, 4)), "last": jnp.zeros(4), "extra": jnp.zeros(2)})
  loaded, report = load_starts((Start(tmp_path / "a"), Start(tmp_path / "b", include="last")), target)
  assert float(loaded["first"][0, 0]) == 1.0 and float(loaded["last"][0]) == 2.0
  assert report.new == ("extra",)
  assert report.unused == {str(tmp_path / "a"): (), str(tmp_path / "b"): ("first",)}
  report.write(tmp_path / "start.json")
  assert json.loads((tmp_path / "start.json").read_text())["loaded"]["last"] == str(tmp_path / "b")
  assert any("unused" in line and "first" in line for line in report.lines())
  assert len(start_fingerprints((Start(tmp_path / "a"),))[0].split("@")) == 2


def test_a_start_that_takes_nothing_or_is_misspelt_is_told(tmp_path):
  make_stage(tmp_path)
  target = abstract({"first": jnp.zeros((3, 4))})
  with pytest.raises(UserError, match="take no parameter"):
    load_starts((Start(tmp_path, include="decoder"),), target)
  with pytest.raises(UserError, match="not a regular expression"):
    load_starts((Start(tmp_path, include="(first"),), target)
  with pytest.raises(UserError, match=r"\(3, 4\) in the checkpoint, \(3, 9\) in the model"):
    load_starts((Start(tmp_path),), abstract({"first": jnp.zeros((3, 9))}))
