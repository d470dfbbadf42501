"""A step compiled ahead of time, as a file: it trains the same bits, and what does not belong to it is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from omni_jax.checkpoint.store import latest_step
from omni_jax.cli import train as train_verb
from omni_jax.cli.main import main
from omni_jax.core.errors import UserError
from omni_jax.core.sharding import make_mesh
from omni_jax.core.topologies import find_topology
from omni_jax.plan.report import make_plan
from omni_jax.train.executable import load_step
from omni_jax.train.learner import make_learner
from omni_jax.train.loop import Run, train
from tests.train import toy

STEPS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(toy.ToyData):
  def shapes(self):
    return {name: jax.ShapeDtypeStruct((self.rows, *leaf.shape), leaf.dtype) for name, leaf in self.record(0).items()}


def make_run(**changes):
  return toy.make_run(**{"steps": STEPS, "data": Data(rows=8, length=12, vocab_size=32), "mesh": "fsdp=1"} | changes)


RECIPE = """
from tests.train.test_executable import make_run

def tiny(workdir):
  return make_run()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  """Of this machine's own compiler, by the path that a plan for a pod takes."""
  path = tmp_path_factory.mktemp("executable") / "step"
  make_plan(make_run(), find_topology("v5e-1"), devices=jax.devices()[:1], options={}, keep=path)
  return path


def losses(workdir):
  lines = [json.loads(line) for line in (workdir / "stages/toy/metrics.jsonl").read_text().splitlines()]
  return [line["loss"] for line in lines if "loss" in line]


def test_a_stage_trained_by_it_is_the_same(file, tmp_path, monkeypatch):
  monkeypatch.setattr(train_verb, "enable_compilation_cache", lambda: None)
  recipe = tmp_path / "executable_recipe_of_tests.py"
  recipe.write_text(RECIPE)
  ahead = tmp_path / "ahead"
  assert main(["train", "--config", f"{recipe}:tiny", "--workdir", str(ahead), "--executable", str(file)]) == 0
  train(make_run(), tmp_path / "here")
  assert latest_step(ahead / "stages/toy") == STEPS
  assert losses(ahead) == losses(tmp_path / "here") and len(losses(ahead)) == STEPS


def refused(file, run: Run):
  with pytest.raises(UserError) as told:
    load_step(file, run=run, learner=make_learner(run, make_mesh("fsdp=1")))
  return str(told.value)


def test_another_run_version_or_machine_is_told(file, tmp_path):
  assert "config" in refused(file, make_run(seed=1)) and "config" in refused(file, make_run(steps=3))
  for damaged in (b"x", b"", b'{"payload}\n', b'{"payload": "x"}', b"[]\n", b'{"\xff": 1}\n'):
    (tmp_path / "x").write_bytes(damaged)
    assert "no executable" in refused(tmp_path / "x", make_run())
  assert "cannot read" in refused(tmp_path / "none", make_run())
  head, _, payload = file.read_bytes().partition(b"\n")
  facts = json.loads(head)
  for name, other in (("jax", "0.0.1"), ("device", "64 x TPU v5"), ("source", "0"), ("mesh", {"fsdp": 64})):
    changed = tmp_path / name
    changed.write_bytes(json.dumps(facts | {name: other}, sort_keys=True).encode() + b"\n" + payload)
    assert f"{name} {other}, here" in refused(changed, make_run())
  (tmp_path / "cut").write_bytes(file.read_bytes()[:-1])
  assert "damaged" in refused(tmp_path / "cut", make_run())


def test_a_batch_of_another_shape_is_told(file):
  run = make_run()
  learner = make_learner(run, make_mesh("fsdp=1"))
  step = load_step(file, run=run, learner=learner)
  with pytest.raises(UserError, match="compiled for"):
    step(None, {"tokens": np.zeros((2, 3), np.int32)})
