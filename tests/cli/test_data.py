import dataclasses
import re

import pytest

from omni_jax.batches import plan
from omni_jax.batches.timing import step_seconds
from omni_jax.cli import data as verb
from omni_jax.cli.main import main
from omni_jax.models.decoder import DecoderConfig
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import OptimizerConfig
from tests.batches import test_grids, test_speech_instruct
from tests.batches.conftest import workdir  # noqa: F401, a fixture
from tests.batches.test_planned import config  # noqa: F401, a fixture
from tests.batches.test_planned_kinds import VIEWS, planned


@pytest.fixture
def choose(monkeypatch):
  """Makes `--config` choose a run on some data."""

  def chosen(data) -> Run:
    run = Run(
      name="stage",
      model=DecoderConfig,
      loss=next_token,
      optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1, weight_decay=0.0, clip_norm=1.0),
      data=data,
      steps=3,
    )
    monkeypatch.setattr(verb, "load_config", lambda *args, **kwargs: run)
    monkeypatch.setattr(plan, "BLOCK_ROWS", 32)
    return run

  return chosen


@pytest.fixture
def chosen(config, choose):  # noqa: F811
  return choose(config)


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
  for line in ("tokens/s", "padding: ", "read files", "read tokens", "cut files", "lay rows", "would not wait"):
    assert line in out
  assert "would wait 100%" in told(capsys, *common, "--step-seconds", 1e-6)
  assert "give --step-seconds" in told(capsys, *common)
  monkeypatch.setattr(verb, "load_config", lambda *args, **kwargs: dataclasses.replace(chosen, data=None))
  assert "packed batches of a language model" in refused(capsys, *common)


@pytest.fixture(scope="module")
def sets(workdir):  # noqa: F811
  test_grids.write_coded(workdir)
  return workdir


@pytest.mark.parametrize("is_planned", [True, False])
@pytest.mark.parametrize(
  ("kind", "shown"),
  [("grids", ("As dialogue", "8 rows of", 'class="t heard"', ">~<")), ("instruct", ("&lt;sosp&gt;", "1 rows of"))],
)
def test_grids_and_sequences_of_all_systems_are_shown_and_timed(
  sets, choose, tmp_path, capsys, kind, shown, is_planned
):
  if is_planned:
    data = planned(kind, sets, tmp_path / "plans")
  elif kind == "grids":
    data = test_grids.batches(sets, *VIEWS, rows=4)
  else:
    data = test_speech_instruct.batches(sets, test_speech_instruct.Kind.CHAIN, "dialogue", rows=4, length=400)
  choose(data)
  common = ("--config", "x.py:f", "--workdir", sets)
  place = next(place for place, source in enumerate(data.sources) if source.view == "dialogue")
  out = tmp_path / "record.html"
  told(capsys, "show", 3, *common, "--source", place, "--out", out)
  page = out.read_text()
  assert all(part in page for part in shown) and '<span class="t unit learned"' in page
  timed = told(capsys, "bench", *common, "--batches", 2, "--step-seconds", 60)
  assert f"{len(data.sources)} sources" in timed and ("mark targets" in timed) == is_planned
  padding = float(re.findall(r"tokens, ([0-9.]+)% of the places", timed)[0])
  assert (padding > 0) == (kind == "grids")


def test_a_step_is_timed_without_the_first():
  lines = [{"step": step, "seconds": second} for step, second in ((1, 9.0), (10, 12.0), (20, 22.0), (30, 32.5))]
  assert step_seconds(lines) == pytest.approx(1.025)
  assert step_seconds(lines[:1]) is None
