"""The report: self-contained, every section there, nothing unescaped, and clear words where there are no results."""

import html.parser
import json
import re

import pytest

from omni_jax.core.errors import UserError
from omni_jax.evaluate import recogniser, report_charts, run
from omni_jax.evaluate.context import Evaluation
from omni_jax.evaluate.report import write_report
from tests.evaluate.worlds import FakeAssistant, make_world

VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}


class Balance(html.parser.HTMLParser):
  """Checks that every tag that opens also closes, in order."""

  def __init__(self):
    super().__init__()
    self.open, self.tags = [], []

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("report")
  make_world(workdir)
  patch = pytest.MonkeyPatch()
  patch.setattr(recogniser, "transcribe", lambda waveforms, **_: ["red <sun>"] * len(waveforms))
  settings = Evaluation(utterances=4, questions=4, spoken_questions=2, dialogues=3, pairs=4, recognised=3, timed=1)
  run.evaluate(settings, workdir, load=FakeAssistant)
  patch.undo()
  for stage, steps in (("tokenizer", 50), ("tune", 3)):
    lines = [{"step": step, "loss": 3.0 / step, "seconds": 0.5 * step, "accuracy": 0.5} for step in range(1, steps)]
    path = workdir / "stages" / stage / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return write_report(workdir).read_text()


def test_page_is_well_formed(page):
  parser = Balance()
  parser.feed(page)
  assert not parser.open


def test_page_loads_nothing_from_outside(page):
  parser = Balance()
  parser.feed(page)
  for tag, attributes in parser.tags:
    for name in ("src", "href", "srcset", "data", "poster"):
      target = attributes.get(name) or "#"
      assert target.startswith(("#", "data:")), f"<{tag} {name}={target[:60]}>"
  assert not re.search(r"https?://|@import|url\(|fetch\(", page)


def test_page_has_every_section_and_honest_words(page):
  for title in ("Goals", "Look and listen", "Styles", "The user's emotion", "All figures", "Training", "Time"):
    assert f">{title.replace(chr(39), '&#x27;')}</h2>" in page
  assert "synthetic prosody classes" in page
  assert page.count("<audio") > 24
  assert "data:image/png" in page
  assert "<polyline" in page
  assert "jax" in page


def test_text_is_escaped(page):
  assert "red &lt;sun&gt;" in page
  assert "red <sun>" not in page


def test_missing_results_are_named(tmp_path):
  with pytest.raises(UserError, match="omni evaluate"):
    write_report(tmp_path)


def test_damaged_results_are_named(tmp_path):
  (tmp_path / "evaluation").mkdir()
  (tmp_path / "evaluation" / "results.json").write_text("{")
  with pytest.raises(UserError, match="cannot read JSON"):
    write_report(tmp_path)


def test_curve_of_one_step_and_interval_of_nothing():
  assert "too few" in report_charts.curve("x", [{"step": 1, "loss": 2.0}], detail="")
  assert report_charts.interval({"value": None, "measure": "WER"}) == ""
