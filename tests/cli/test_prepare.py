import json

import pytest

from omni_jax.batches.utterances import Bucket, UtteranceBatches, load_phones, phone_ids
from omni_jax.cli.main import main
from omni_jax.prepare.emova_phones import EMOVA_PHONES
from omni_jax.prepare.reader import open_set
from tests.prepare.corpora.fixtures import save_sound, write


@pytest.fixture
def corpus(tmp_path):
  write(tmp_path / "lj" / "metadata.csv", "a|One|one two\nb|Two|zażółć\n")
  for name in "ab":
    save_sound(tmp_path / "lj" / "wavs" / f"{name}.wav")
  return tmp_path / "lj"


def test_a_corpus_with_the_phones_of_emova(tmp_path, corpus, capsys):
  pytest.importorskip("pypinyin")
  command = ["prepare", "--source", f"ljspeech:{corpus}", "--name", "lj", "--workdir", str(tmp_path / "work")]
  options = ["--phones", "emova", "--max-rejected", "0.5", "--workers", "1"]
  assert main([*command, *options]) == 0
  table = load_phones(tmp_path / "work" / "corpus" / "phones.json", limit=240)
  (turn,) = open_set(tmp_path / "work" / "corpus" / "lj", "train")[0].turns
  labels = [EMOVA_PHONES[place] for place in phone_ids(turn, table)]
  assert labels == ["en_W", "en_AH1", "en_N", "en_T", "en_UW1"]
  batches = UtteranceBatches(
    sets=(tmp_path / "work" / "corpus" / "lj",), split="train", phones=tmp_path / "work" / "corpus" / "phones.json",
    num_phones=240, max_phones=8, buckets=(Bucket(seconds=0.5, rows=1),), seed=0,
  )  # fmt: skip
  batch = next(iter(batches.open()))
  assert [EMOVA_PHONES[place] for place in batch["phones"][0][: batch["num_phones"][0]]] == labels
  assert main([*command, *options]) == 0
  assert "as it was made before" in capsys.readouterr().out
  assert main([*command, *options[2:], "--phones", "espeak", "--split", "test"]) == 2
  assert "share their phones" in capsys.readouterr().err


def test_a_field_of_the_reader(tmp_path, corpus, capsys):
  command = ["prepare", "--source", f"ljspeech:{corpus}", "--name", "lj", "--workdir", str(tmp_path / "work")]
  assert main([*command, "--workers", "1", "--set", "limits.max_seconds=0.1"]) == 2
  assert "at most 1600 samples" in capsys.readouterr().err
  lines = (tmp_path / "work" / "corpus" / "lj" / ".train.making" / "quarantine.jsonl").read_text().splitlines()
  assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


@pytest.mark.parametrize("source", ["lj:/x", "ljspeech", "ljspeech:"])
def test_a_source_that_is_none(tmp_path, capsys, source):
  assert main(["prepare", "--source", source, "--name", "x", "--workdir", str(tmp_path)]) == 2
  assert "KIND:PATH" in capsys.readouterr().err
