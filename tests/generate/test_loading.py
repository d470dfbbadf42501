import json

import pytest

from configs.mini_omni import recipe as mini_omni
from configs.mini_omni import scales
from omni_jax.batches.planned import PlannedBatches
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.core.config import to_json
from omni_jax.core.errors import UserError
from omni_jax.generate import loading
from omni_jax.generate.assistant import Assistant
from omni_jax.generate.loading import load_assistant, usual_stage
from omni_jax.generate.row_assistant import RowAssistant
from omni_jax.generate.speech_gpt_assistant import SpeechGPTAssistant
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.templates import TINY


def stage(workdir, run):
  folder = workdir / "stages" / run.name
  folder.mkdir(parents=True)
  write_card(folder, make_card(run, workdir=workdir, ignored=(), starts=()))


def test_the_card_of_a_stage_says_which_system_it_is(tmp_path, monkeypatch):
  stage(tmp_path, mini_omni.omni(tmp_path, scale=scales.SMOKE))
  loaded = {}
  for system in (Assistant, SpeechGPTAssistant, RowAssistant):
    monkeypatch.setattr(
      system, "load", classmethod(lambda cls, workdir, *, stage, sampling, **parts: loaded.update({cls: parts}))
    )
  load_assistant(tmp_path, stage="mini_omni", vocoder="voice")
  assert loaded == {RowAssistant: {"vocoder": "voice"}}
  assert usual_stage(tmp_path) == "mini_omni"
  (tmp_path / "stages" / "tune").mkdir()
  (tmp_path / "stages" / "tune" / "run.json").write_text(
    json.dumps({"format": 1, "fingerprint": "", "starts": [], "run": {}})
  )
  assert usual_stage(tmp_path) == "tune" and usual_stage(tmp_path / "nothing") == "tune"
  load_assistant(tmp_path, stage="tune")
  assert Assistant in loaded, "an imported stage has no data; its loader says what it lacks"


def test_a_stage_that_read_in_a_planned_order_is_a_stage_of_emova(tmp_path, monkeypatch):
  source = Source(folder=tmp_path / "text", split="train", view="text", weight=1.0)
  data = PlannedBatches(
    text=tmp_path, template=TINY, layout=NativeLayout(text_chunk=8, unit_chunk=12), sources=(source,), rows=1, length=8,
    patches=0, images=ImageSize(patch=1, merge=1, min_pixels=1, max_pixels=1), quarantine=tmp_path / "aside.jsonl",
    seed=0, plans=tmp_path / "plans",
  )  # fmt: skip
  folder = tmp_path / "stages" / "tune"
  folder.mkdir(parents=True)
  (folder / "run.json").write_text(
    json.dumps({"format": 1, "fingerprint": "", "starts": [], "run": {"data": to_json(data)}})
  )
  loaded = []
  monkeypatch.setattr(Assistant, "load", lambda workdir, *, stage, sampling: loaded.append(stage))
  load_assistant(tmp_path, stage="tune")
  assert loaded == ["tune"]


def test_stages_without_a_language_model_are_refused(tmp_path):
  with pytest.raises(UserError, match="no such stage"):
    load_assistant(tmp_path, stage="tune")
  folder = tmp_path / "stages" / "tokenizer"
  folder.mkdir(parents=True)
  data = loading.SequenceBatches.__module__.replace("sequences", "sources") + ":ImageSize"
  fields = {"patch": 4, "merge": 2, "min_pixels": 1, "max_pixels": 64, "window": 0}
  (folder / "run.json").write_text(
    json.dumps({"format": 1, "fingerprint": "", "starts": [], "run": {"data": {"type": data, **fields}}})
  )
  with pytest.raises(UserError, match="was trained on ImageSize"):
    load_assistant(tmp_path, stage="tokenizer")


@pytest.mark.parametrize("system", [Assistant, SpeechGPTAssistant, RowAssistant])
def test_an_imported_stage_is_told_as_such(tmp_path, system):
  folder = tmp_path / "stages" / "mine"
  folder.mkdir(parents=True)
  write_card(folder, {"format": 1, "fingerprint": "", "starts": [], "run": {}})
  with pytest.raises(UserError, match=r"stage 'mine' was imported, not trained here[\s\S]*rule:[\s\S]*remedy:"):
    system.load(tmp_path, stage="mine")
