import json
from pathlib import Path

import pytest

from configs.emova import collections as emova
from configs.mini_omni import collections as mini_omni
from configs.speechgpt import collections as speechgpt
from omni_jax.cli.main import main
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from tests.prepare.corpora.fixtures import picture_bytes, write
from tests.prepare.corpora.test_conversations import answer, talk, units
from tests.prepare.corpora.test_tables import file, table

IMAGE_ROW = {"id": "1", "image": file(picture_bytes(), "a.png"), "conversations": talk("<image>\nwhat", "a dog")}
ROWS = {
  "images": [IMAGE_ROW],
  "text": [{"id": "1", "conversations": talk("hi", "ho")}],
  "speech": [{"id": f"1_{kind}", "conversations": talk(units(1), "go")} for kind in ("asr", "tts")],
  "dialogue": [{"id": "1", "conversations": talk(units(3), answer())}],
  "spoken_images": [{**IMAGE_ROW, "conversations": talk(f"<image>{units(3)}", answer())}],
}


def test_the_published_counts_add_up():
  published = {member.name: member.published for member in emova.alignment(Path("x")).members}
  assert published == {"corpus/images": 2_725_300, "corpus/text": 900_000, "units/speech": 1_276_250}
  assert sum(member.published for member in emova.spoken(Path("x")).members) == 231_244
  assert sum(member.published for member in emova.instructions(Path("x")).members) == 4_368_400


def test_the_alignment_from_its_release(tmp_path, capsys):
  for kind, subsets in (
    ("images", emova.ALIGNMENT_IMAGES), ("text", emova.ALIGNMENT_TEXT), ("speech", emova.ALIGNMENT_SPEECH)
  ):  # fmt: skip
    for name in subsets:
      table(tmp_path / "data" / name / "train-00000-of-00001.parquet", ROWS[kind])
  command = ["prepare", "--config", "configs/emova/collections.py:alignment", "--data", str(tmp_path / "data")]
  assert main([*command, "--workdir", str(tmp_path / "work"), "--workers", "1"]) == 0
  said = capsys.readouterr().out
  assert "corpus/images train: 21 records of 2725300 published, 0 put aside" in said
  assert open_set(tmp_path / "work" / "corpus" / "images", "train")[0].task == "caption"
  assert len(open_set(tmp_path / "work" / "units" / "speech", "train")) == 1  # once, not as asr and as tts


def test_instructions_are_told_apart_by_what_they_hold(tmp_path):
  for place, rows in enumerate(ROWS.values()):
    table(tmp_path / f"subset{place}" / "train.parquet", rows)
  found = {
    member.name: [entry.id for entry in member.preparation.corpus.entries()]
    for member in emova.instructions(tmp_path).members
  }
  assert found == {
    "corpus/instruction_images": ["subset0/1"],
    "corpus/instruction_text": ["subset1/1"],
    "units/instruction_speech": ["subset2/1_asr", "subset2/1_tts"],
    "units/dialogue": ["subset3/1"],
    "units/spoken_images": ["subset4/1"],
  }
  table(tmp_path / "subset5" / "train.parquet", [{"id": "1", "conversations": []}])
  with pytest.raises(UserError, match="tells no task"):
    list(emova.instructions(tmp_path).members[0].preparation.corpus.entries())


def test_the_other_releases(tmp_path):
  said = "<sosp><1><eosp>"
  texts = ["[Human]: Hi<eoh> [SpeechGPT]: Ho<eoa>", f"[Human]: This is input: {said}<eoh> [SpeechGPT]: go<eoa>"]
  chain = f"[Human]: {said}<eoh>. [SpeechGPT]: go; [ta] on; [ua] {said}<eoa>."
  lines = [json.dumps({"prefix": "", "plain_text": text}) for text in (*texts, chain)]
  write(tmp_path / "SpeechInstruct_cross_modal.jsonl", "\n".join(lines[:2]))
  write(tmp_path / "SpeechInstruct_chain_of_modality.jsonl", lines[2])
  for member in speechgpt.speech_instruct(tmp_path).members:
    corpus = member.preparation.corpus
    (entry,) = corpus.entries()
    assert corpus.read(entry).task in member.name
  assert mini_omni.voice_assistant(tmp_path).members[0].published == 470_054


@pytest.mark.parametrize(
  "flags", [["--config", "configs/emova/collections.py:alignment"], ["--source", "folder:/x"], ["--name", "x"]]
)
def test_flags_that_do_not_belong_together(tmp_path, capsys, flags):
  assert main(["prepare", *flags, "--workdir", str(tmp_path)]) == 2
  assert "command line" in capsys.readouterr().err
