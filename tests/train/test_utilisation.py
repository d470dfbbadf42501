"""MFU: what counts as useful, whose peak it is a share of, and what the log says."""

import dataclasses
import types
from typing import Any, NamedTuple

import jax
import pytest

from omni_jax.cli.main import main
from omni_jax.core import config
from omni_jax.train.loop import Run, train
from omni_jax.train.losses import next_token
from omni_jax.train.metrics import read_metrics
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.utilisation import Utilisation, all_operations, peak_teraflops, useful_operations
from tests.train import duels, packed


@pytest.fixture(autouse=True)
def tests_can_be_stored(monkeypatch):
  """Lets stored configs of tests be imported back."""
  monkeypatch.setattr(config, "_PACKAGE", "tests")


def make_run(*, remat="none", **changes):
  fields = {
    "name": "omni",
    "model": packed.model_config(remat=remat),
    "loss": next_token,
    "optimizer": OptimizerConfig(learning_rate=1e-3),
    "data": packed.PackedData(rows=4, length=16),
    "steps": 4,
    "log_every": 2,
  }
  return Run(**{**fields, **changes})


def of_decoder(model, batch, key):
  """`next_token` of a decoder on its own."""

  class Reading(NamedTuple):
    decoder: Any

    def hidden(self, batch):
      given = self.decoder.embed.embed(batch["tokens"])
      return self.decoder.hidden(given, batch["positions"], batch["segment_ids"])

    def logits(self, hidden):
      return self.decoder.logits(hidden)

  return next_token(Reading(model), batch, key)


def test_what_is_computed_twice_is_not_useful():
  batch = packed.batch_of(4, length=16)
  runs = [make_run(remat=remat) for remat in ("none", "full")]
  once, twice = (useful_operations(run, batch).total for run in runs)
  assert once == twice > 0
  assert all_operations(runs[1], batch).total > all_operations(runs[0], batch).total
  assert useful_operations(runs[0], packed.batch_of(8, length=16)).total == pytest.approx(2 * once, rel=0.1)


def test_a_decoder_that_learns_does_three_times_what_it_does_to_answer():
  rows, length, width, inner, kv, mlp, vocab = 4, 64, 16, 32, 16, 24, 64
  layer = 2 * length * (2 * width * inner + 2 * width * kv + 3 * width * mlp) + 2 * 2 * length**2 * inner
  forward = rows * (2 * layer + 2 * length * width * vocab)
  run = make_run(model=packed.model_config().decoder, loss=of_decoder)
  shapes = {name: jax.ShapeDtypeStruct((rows, length), "int32") for name in ("tokens", "positions", "segment_ids")}
  shapes |= {"targets": shapes["tokens"], "loss_mask": jax.ShapeDtypeStruct((rows, length), "float32")}
  assert useful_operations(run, shapes).total == pytest.approx(3 * forward, rel=0.005)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_kernels_of_an_accelerator_hide_nothing(platform):
  batch = packed.batch_of(4, length=16)
  run = make_run()
  plain = useful_operations(run, batch), all_operations(run, batch)
  device = jax.sharding.AbstractDevice(device_kind="some", num_cores=None, platform=platform)
  with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("fsdp",), abstract_device=device)):
    assert (useful_operations(run, batch), all_operations(run, batch)) == plain


@pytest.mark.parametrize(
  ("kind", "peak"),
  [
    ("TPU v5 lite", 197),
    ("TPU v5", 459),
    ("NVIDIA H100 80GB HBM3", 989),
    ("NVIDIA H100 PCIe", 756),
    ("NVIDIA A100-SXM4-80GB", 312),
    ("NVIDIA L4", 121),
    ("NVIDIA L40", None),
    ("cpu", None),
  ],
)
def test_the_peak_is_that_of_the_device(kind, peak):
  assert peak_teraflops(types.SimpleNamespace(device_kind=kind)) == peak


def test_seconds_at_the_peak():
  batch, run = packed.batch_of(4, length=16), make_run()
  useful = useful_operations(run, batch).total
  assert Utilisation(run, teraflops=2.0, devices=4).least_seconds(batch) == pytest.approx(useful / 8e12)
  assert Utilisation(run, teraflops=None, devices=4).least_seconds(batch) == 0.0
  assert Utilisation(duels.make_duel(), teraflops=2.0, devices=1).least_seconds(batch) == 0.0


def test_the_share_is_logged_where_the_peak_is_known(tmp_path, capsys):
  run = make_run()
  lines = read_metrics(train(run, tmp_path, teraflops=1e-6))
  useful = useful_operations(run, packed.batch_of(4, length=16)).total
  # One step between the second log and the first: its seconds lie between those of the lines.
  first, *later = lines
  for before, line in zip((first, *later), later, strict=False):
    steps = line["step"] - before["step"]
    assert line["mfu"] >= steps * useful / 1e6 / (line["seconds"] - before["seconds"] + 0.05)
    assert line["mfu"] == pytest.approx(useful / 1e6 / 64 * line["tokens_per_second"], rel=0.5)
  assert "MFU" in capsys.readouterr().out
  assert "mfu" not in read_metrics(train(dataclasses.replace(run, name="unknown"), tmp_path))[-1]


def test_a_peak_is_above_zero(capsys):
  with pytest.raises(SystemExit):
    main(["train", "--config", "x.py:y", "--workdir", "w", "--peak-teraflops", "0"])
  assert "above 0" in capsys.readouterr().err
