import builtins
import dataclasses

import pytest

from omni_jax.build.beam import run_on_beam
from omni_jax.build.driver import prepare
from omni_jax.core.errors import UserError
from tests.build.test_driver import PLAN, Numbers, contents


@pytest.mark.parametrize("flags", [(), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")])
def test_beam_makes_the_same_bytes(tmp_path, flags):
  pytest.importorskip("apache_beam")
  prepare(PLAN, tmp_path / "local" / "set", "train", say=lambda _: None)
  prepare(PLAN, tmp_path / "beam" / "set", "train", run=run_on_beam("DirectRunner", flags=flags), say=lambda _: None)
  assert contents(tmp_path / "local" / "set") == contents(tmp_path / "beam" / "set")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(Numbers):
  """Fails in a way that puts no entry aside."""

  def read(self, entry):
    raise RuntimeError("the disk melted")


def test_what_fails_on_a_worker_is_told(tmp_path):
  pytest.importorskip("apache_beam")
  plan = dataclasses.replace(PLAN, corpus=Broken(count=9))
  with pytest.raises(UserError, match="the disk melted"):
    prepare(plan, tmp_path / "set", "train", run=run_on_beam("DirectRunner"), say=lambda _: None)


def test_without_beam_it_is_told(monkeypatch):
  original = builtins.__import__

  def without(name, *arguments, **settings):
    if name == "apache_beam":
      raise ImportError(name)
    return original(name, *arguments, **settings)

  monkeypatch.setattr(builtins, "__import__", without)
  with pytest.raises(UserError, match="not installed"):
    run_on_beam("DirectRunner")
