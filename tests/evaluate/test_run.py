"""The wiring of every task, against a fake assistant that knows its little corpus by heart."""

import dataclasses
import json

import pytest

from omni_jax.core.errors import UserError
from omni_jax.evaluate import recogniser, run
from omni_jax.evaluate.context import Evaluation
from omni_jax.evaluate.table import results_table
from tests.evaluate.worlds import FakeAssistant, make_world

SETTINGS = Evaluation(
  utterances=12,
  questions=6,
  spoken_questions=6,
  dialogues=6,
  pairs=12,
  recognised=5,
  style_repeats=1,
  style_training=24,
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  make_world(workdir)
  patch = pytest.MonkeyPatch()
  patch.setattr(recogniser, "transcribe", lambda waveforms, **_: ["red sun"] * len(waveforms))
  results = run.evaluate(SETTINGS, workdir, load=FakeAssistant)
  yield workdir, results
  patch.undo()


def figure(results, name):
  found = [row for row in results["figures"] if row["figure"].startswith(name)]
  assert found, f"no figure {name!r}"
  return found[0]


def test_every_task_has_figures_and_a_line_for_each_sample(evaluated):
  workdir, results = evaluated
  assert {row["task"] for row in results["figures"]} == set(run.TASKS)
  assert results == json.loads((workdir / "evaluation" / "results.json").read_text())
  for task in run.TASKS:
    lines = (workdir / "evaluation" / f"{task}.jsonl").read_text().splitlines()
    assert lines and all(json.loads(line) for line in lines)


def test_every_figure_has_interval_samples_and_baselines(evaluated):
  _, results = evaluated
  for row in results["figures"]:
    assert row["low"] <= row["value"] <= row["high"], row
    assert row["n"] > 0
    if row["measure"] in ("WER", "PER", "CER"):
      assert "chance" in row["baselines"], row["figure"]
    if (
      row["measure"] == "accuracy"
      and row["task"] not in ("timings", "recognition")
      and "same words" not in row["figure"]
    ):
      has = row["baselines"]
      assert "chance" in has or "with triples" in has, row["figure"]


def test_a_perfect_assistant_is_perfect(evaluated):
  _, results = evaluated
  assert figure(results, "recognition (held-out sentences, seen")["value"] == 0
  assert figure(results, "phone error rate")["value"] == 0
  images = figure(results, "image questions, all kinds")
  assert images["value"] == 1
  assert images["baselines"]["blind"]["value"] == 0.5
  assert figure(results, "image questions, count, scene many")["n"] == 3
  assert figure(results, "pitch asked of text to speech, measured")["value"] == 1
  assert figure(results, "emotion (rate and pitch range) asked")["value"] == 1


def test_broken_answers_count_as_wrong(evaluated):
  _, results = evaluated
  asked = figure(results, "spoken image questions, all kinds")
  assert asked["value"] == 1
  assert asked["baselines"]["blind"]["value"] == 0
  assert asked["baselines"]["without triples"]["value"] == 0
  assert figure(results, "spoken image questions, trained without any")["baselines"]["with triples"]["value"] == 1


def test_emotion_is_heard_only_with_heard_style(evaluated):
  _, results = evaluated
  heard = figure(results, "the user's emotion is named in the answer (with")
  assert heard["value"] == 1
  assert heard["baselines"]["without heard style"]["value"] == heard["baselines"]["chance"]["value"] == 0.25
  assert figure(results, "same words, other emotion: the answer's style changes")["value"] == 1


def test_a_second_run_does_nothing_and_a_changed_model_runs_again(evaluated):
  workdir, results = evaluated

  def no_load(*_, **__):
    raise AssertionError("loaded")

  assert run.evaluate(SETTINGS, workdir, load=no_load) == results
  (workdir / "stages" / "tune" / "checkpoints" / "8").mkdir()
  with pytest.raises(AssertionError, match="loaded"):
    run.evaluate(SETTINGS, workdir, tasks=["timings"], load=no_load)
  (workdir / "stages" / "tune" / "checkpoints" / "8").rmdir()
  lengths = workdir / "units" / "lengths.json"
  lengths.parent.mkdir(exist_ok=True)
  lengths.write_text("other")
  with pytest.raises(AssertionError, match="loaded"):
    run.evaluate(SETTINGS, workdir, tasks=["timings"], load=no_load)
  lengths.unlink()


def test_one_task_leaves_the_others(evaluated):
  workdir, results = evaluated
  again = run.evaluate(SETTINGS, workdir, tasks=["tokenizer"], overwrite=True, load=FakeAssistant)
  assert [row["figure"] for row in again["figures"]] == [row["figure"] for row in results["figures"]]


def test_without_flite_nothing_is_measured(tmp_path, monkeypatch):
  make_world(tmp_path, engine="espeak")
  monkeypatch.setattr(recogniser, "transcribe", lambda *_, **__: pytest.fail("espeak-ng is not to be judged"))
  results = run.evaluate(SETTINGS, tmp_path, tasks=["synthesis"], load=FakeAssistant)
  assert all(row["value"] is None and row["status"] == "not measurable" for row in results["figures"])
  assert "not measurable" in results_table(results)


def test_table_shows_every_figure(evaluated):
  _, results = evaluated
  assert len(results_table(results).splitlines()) == 2 + len(results["figures"])


def test_unknown_task_is_named(tmp_path):
  with pytest.raises(UserError, match="unknown task 'singing'"):
    run.evaluate(SETTINGS, tmp_path, tasks=["singing"], load=FakeAssistant)


def test_missing_corpus_and_stage_are_named(tmp_path):
  with pytest.raises(UserError, match="no such stage"):
    run.evaluate(SETTINGS, tmp_path, load=FakeAssistant)


def test_limit_must_be_positive():
  with pytest.raises(UserError, match="limit 0"):
    run.limited(SETTINGS, 0)
  assert run.limited(SETTINGS, 2).utterances == 2
  assert run.limited(SETTINGS, None) == SETTINGS


def test_what_is_heard_is_scored_only_where_a_system_writes_it_down(evaluated, monkeypatch):
  workdir, results = evaluated
  assert figure(results, "words of the user inside") and figure(results, "spoken image questions, the user's words")

  class Silent(FakeAssistant):
    def answer(self, questions):
      return [dataclasses.replace(answer, heard_text="") for answer in super().answer(questions)]

  stage = workdir / "stages" / "mini_omni"
  (stage / "checkpoints" / "7").mkdir(parents=True)
  (stage / "run.json").write_text(json.dumps({"format": 1, "fingerprint": "mini_omni", "run": {}, "starts": []}))
  tasks = ["dialogue", "spoken_images"]
  silent = run.evaluate(SETTINGS, workdir, system="mini_omni", tasks=tasks, load=Silent)
  assert {row["task"] for row in silent["figures"]} == set(tasks)
  assert not [row["figure"] for row in silent["figures"] if "the user" in row["figure"] and row["measure"] == "WER"]


def test_damaged_results_are_told(evaluated):
  workdir, _ = evaluated
  path = workdir / "evaluation" / "timings.json"
  whole = path.read_text()
  path.write_text(whole[:20])
  with pytest.raises(UserError, match=r"cannot read JSON.*\n?.*timings\.json"):
    run.evaluate(SETTINGS, workdir, tasks=["timings"], load=FakeAssistant)
  path.write_text(whole)


def test_what_a_system_cannot_do_is_left_out_with_the_reason(evaluated, monkeypatch):
  workdir, results = evaluated

  class Deaf(FakeAssistant):
    def __init__(self, workdir, *, stage):
      super().__init__(workdir, stage=stage)
      self.abilities = frozenset()

  stage = workdir / "stages" / "speech_gpt"
  (stage / "checkpoints" / "7").mkdir(parents=True)
  (stage / "run.json").write_text(json.dumps({"format": 1, "fingerprint": "speech_gpt", "run": {}, "starts": []}))
  monkeypatch.setattr(recogniser, "transcribe", lambda waveforms, **_: ["red sun"] * len(waveforms))
  own = run.evaluate(SETTINGS, workdir, system="speech_gpt", load=Deaf)
  assert set(own["skipped"]) == {"tokenizer", "images", "spoken_images", "emotion_heard", "style"}
  assert "sees images" in own["skipped"]["images"] and not own["not_run"]
  assert {row["task"] for row in own["figures"]} == {"recognition", "dialogue", "synthesis", "timings"}
  assert not any("chose to speak in" in row["figure"] for row in own["figures"])
  assert (workdir / "evaluation" / "speech_gpt" / "dialogue.jsonl").read_text()
  assert run.evaluate(SETTINGS, workdir, tasks=["timings"], load=FakeAssistant)["figures"] == results["figures"]
  cascade = run.evaluate(SETTINGS, workdir, system="cascade", tasks=["recognition"], load=Deaf)
  assert {row["task"] for row in cascade["figures"]} == {"recognition"} and "images" not in cascade["not_run"]
  with pytest.raises(UserError, match="unknown system 'choir'"):
    run.evaluate(SETTINGS, workdir, system="choir", load=Deaf)
