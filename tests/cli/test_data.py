import dataclasses

import pytest

from omni_jax.batches import plan
from omni_jax.batches.timing import step_seconds
from omni_jax.cli import data as verb
from omni_jax.cli.main import main
from omni_jax.models.decoder import DecoderConfig
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import OptimizerConfig
from tests.batches.conftest import workdir  # noqa: F401, a fixture
from tests.batches.test_planned import config  # noqa: F401, a fixture


@pytest.fixture
def chosen(config, monkeypatch):  # noqa: F811
  run = Run(
    name="stage",
    model=DecoderConfig,
    loss=next_token,
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1, weight_decay=0.0, clip_norm=1.0),
    data=config,
    steps=3,
  )
  monkeypatch.setattr(verb, "load_config", lambda *args, **kwargs: run)
  monkeypatch.setattr(plan, "BLOCK_ROWS", 32)
  return run


def told(capsys, *words) -> str:
  assert main(["data", *map(str, words)]) == 0
  return capsys.readouterr().out


def refused(capsys, *words) -> str:
  assert main(["data", *map(str, words)]) == 2
  return capsys.readouterr().err


def test_inspect_tells_what_sets_hold_and_share(workdir, capsys):  # noqa: F811
  out = told(capsys, "inspect", "--workdir", workdir)
  assert out.count(" 20 records, ") == 6 and "text tokens of a record" in out and "none: no sample" in out
  out = told(capsys, "inspect", "--workdir", workdir, "--sets", "units/text", "--evaluation", workdir / "units/text")
  assert out.count(" records, ") == 1
  seen = ("--sets", "units/speech", "--evaluation", workdir / "units" / "text")
  assert "leakage" in told(capsys, "inspect", "--workdir", workdir, *seen)
  assert "no sets" in refused(capsys, "inspect", "--workdir", workdir / "none")
  assert "no such set" in refused(capsys, "inspect", "--workdir", workdir, "--sets", "units/none")


def test_show_writes_a_page(chosen, workdir, tmp_path, capsys):  # noqa: F811
  common = ("--config", "x.py:f", "--workdir", workdir)
  out = tmp_path / "pages" / "record.html"
  assert str(out) in told(capsys, "show", 3, *common, "--source", 2, "--out", out)
  assert "spoken_visual_question/3" in out.read_text() and "As dialogue" in out.read_text()
  assert "numbered 0 to 19" in refused(capsys, "show", 20, *common)
  assert "speech as recognise" in refused(capsys, "show", 1, *common, "--source", 9)


def test_bench_tells_rates_and_stages(chosen, workdir, capsys, monkeypatch):  # noqa: F811
  common = ("bench", "--config", "x.py:f", "--workdir", workdir, "--batches", 2)
  out = told(capsys, *common, "--step-seconds", 60)
  for line in ("tokens/s", "padding: ", "read images", "read tokens", "cut images", "lay rows", "would not wait"):
    assert line in out
  assert "would wait 100%" in told(capsys, *common, "--step-seconds", 1e-6)
  assert "give --step-seconds" in told(capsys, *common)
  monkeypatch.setattr(verb, "load_config", lambda *args, **kwargs: dataclasses.replace(chosen, data=None))
  assert "packed batches of a language model" in refused(capsys, *common)


def test_a_step_is_timed_without_the_first():
  lines = [{"step": step, "seconds": second} for step, second in ((1, 9.0), (10, 12.0), (20, 22.0), (30, 32.5))]
  assert step_seconds(lines) == pytest.approx(1.025)
  assert step_seconds(lines[:1]) is None
