"""A run of adapters alone: the base stays bit for bit, and a stopped run ends in the same bits."""

import dataclasses

import numpy as np
import pytest

from omni_jax.checkpoint import store
from omni_jax.checkpoint.initialise import Start
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.nn.quantise import quantise
from omni_jax.train.loop import train
from omni_jax.train.losses import Dropping, next_token
from omni_jax.train.optimizer import Group, OptimizerConfig
from tests.train.stages import assert_same_bits, curve, params_of
from tests.train.toy import KillingData, ToyConfig, make_run

BASE = ToyConfig(width=16, depth=2, vocab_size=32)


def adapted_run(base_stage, *, bits, steps):
  return make_run(
    name="adapted",
    model=AdaptedConfig(
      base=BASE, targets=(r"blocks\.up", r"blocks\.down"), rank=4, alpha=8.0, dropout=0.1, bits=bits, block=8
    ),
    loss=Dropping(loss=next_token),
    optimizer=OptimizerConfig(learning_rate=3e-2, groups=(Group(".*", 0.0), Group("pairs", 1.0))),
    start=(Start(base_stage),),
    steps=steps,
  )


@pytest.fixture(scope="module")
def base_stage(tmp_path_factory):
  return train(make_run(steps=8), tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("bits", ["", "nf4"])
def test_adapters_learn_on_a_base_that_stays(base_stage, tmp_path, bits):
  stage = train(adapted_run(base_stage, bits=bits, steps=12), tmp_path)
  before, after = params_of(base_stage), params_of(stage)
  assert ("codes.blocks.up.values" in after) == bool(bits) and ("base.blocks.up" in after) != bool(bits)
  kept = ("tokens", "head", "blocks.norm") if bits else ("tokens", "head", "blocks.norm", "blocks.up", "blocks.down")
  for path in kept:
    np.testing.assert_array_equal(after[f"base.{path}"], before[path])
  if bits:
    small = quantise(before["blocks.up"], kind=bits, block=8)
    np.testing.assert_array_equal(after["codes.blocks.up.values"], small.values)
  losses = [loss for _, loss in curve(stage)]
  assert np.mean(losses[-3:]) < np.mean(losses[:3]) and np.abs(after["pairs.blocks.up.up"]).max() > 0


def test_a_stopped_run_ends_in_the_same_bits(base_stage, tmp_path, monkeypatch):
  monkeypatch.setenv("TOY_SERVED", "0")
  run = adapted_run(base_stage, bits="int8", steps=8)
  whole = train(run, tmp_path / "whole")
  fields = {field.name: getattr(run.data, field.name) for field in dataclasses.fields(run.data)}
  data = KillingData(**fields, after_batches=6, signal_name="SIGTERM", mark=tmp_path / "mark")
  stopping = dataclasses.replace(run, data=data)
  with pytest.raises(SystemExit):
    train(stopping, tmp_path / "stopped")
  assert 0 < store.latest_step(tmp_path / "stopped/stages/adapted") < 8
  stopped = train(stopping, tmp_path / "stopped")
  assert_same_bits(whole, stopped)
  assert curve(whole) == curve(stopped)
