"""Systems side by side: the figures of their own results, and nothing for what a system was not asked."""

import json

import pytest

from omni_jax.core.errors import UserError
from omni_jax.evaluate.comparison import ROWS, compared, comparison_table, evaluated_systems
from omni_jax.evaluate.report import write_report
from omni_jax.evaluate.systems import SYSTEMS


def results(value, *, tasks=("recognition", "dialogue"), system="emova"):
  rows = {names[:2] for names in ROWS.values() if names[0] in tasks}
  score = {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 7}
  figures = [
    {"task": task, "figure": figure, "measure": "accuracy", **score, "baselines": {"cascade": {"value": 0.25}}}
    for task, figure in sorted(rows)
  ]
  known = {"figures": figures, "tables": {}, "seconds": {"recognition": 1.0}, "not_run": [], "versions": {}}
  return known | {"skipped": {"images": "it <does> not see"}, "settings": {}, "finished": "today", "machine": "here"}


@pytest.fixture
def workdir(tmp_path):
  for system, value in (("emova", 0.5), ("speech_gpt", 0.3)):
    folder = SYSTEMS[system].results(tmp_path)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results(value)))
  return tmp_path


def test_every_system_has_its_column_and_every_row_its_figures(workdir):
  systems = evaluated_systems(workdir)
  assert list(systems) == ["emova", "speech_gpt"]
  rows = compared(systems)
  assert {ROWS[row][0] for row in rows} == {"recognition", "dialogue"}
  assert rows["spoken question, right words"]["speech_gpt"].value == 0.3
  assert rows["the same, recognised and asked in writing"]["emova"].value == 0.25
  assert "the same, asked in writing" not in rows, "no system has it"
  head, _, first, *_ = comparison_table(systems).splitlines()
  assert head == "| figure | EMOVA | SpeechGPT |"
  assert first.endswith("| 50.0 % (49.0 to 51.0, 7) | 30.0 % (29.0 to 31.0, 7) |")


def test_a_cascade_says_whose_steps_it_takes(workdir):
  folder = SYSTEMS["cascade"].results(workdir)
  folder.mkdir()
  (folder / "results.json").write_text(json.dumps(results(0.9) | {"settings": {"stage": "tune"}}))
  head = comparison_table(evaluated_systems(workdir)).splitlines()[0]
  assert head == "| figure | EMOVA | SpeechGPT | Cascade of tune |"
  assert "Cascade of tune" in write_report(workdir).read_text()


def test_the_report_shows_them_all(workdir):
  page = write_report(workdir).read_text()
  for title in ("Systems side by side", "SpeechGPT", "All figures"):
    assert f">{title}</h2>" in page
  assert "left out, it &lt;does&gt; not see" in page and page.count("30.0 %") > 2


def test_one_system_alone_has_a_report_of_its_own(tmp_path):
  folder = SYSTEMS["mini_omni"].results(tmp_path)
  folder.mkdir(parents=True)
  (folder / "results.json").write_text(json.dumps(results(0.4)))
  page = write_report(tmp_path).read_text()
  assert "of the Mini-Omni kind" in page and "side by side" not in page
  (folder / "results.json").write_text("{")
  with pytest.raises(UserError, match="cannot read JSON"):
    evaluated_systems(tmp_path)
