import json

import pytest

from omni_jax.batches.utterances import Bucket, UtteranceBatches, load_phones, phone_ids
from omni_jax.cli.main import main
from omni_jax.prepare.emova_phones import EMOVA_PHONES
from omni_jax.prepare.reader import open_set
from tests.prepare.corpora.fixtures import picture_bytes, save_sound, write
from tests.prepare.corpora.test_conversations import talk, units
from tests.prepare.corpora.test_pictures import empty_png


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
  assert main(["prepare", "--source", source, "--name", "x", "--workdir", str(tmp_path), "--phones", "espeak"]) == 2
  assert "KIND:PATH" in capsys.readouterr().err
  assert not list(tmp_path.iterdir()), "phones are those of a set"


@pytest.mark.parametrize("steps", ["nothing", "nothing.py:made", "configs/emova/builders.py:nothing"])
def test_steps_that_are_none(tmp_path, corpus, capsys, steps):
  command = ["prepare", "--source", f"ljspeech:{corpus}", "--name", "lj", "--workdir", str(tmp_path / "work")]
  assert main([*command, "--steps", steps]) == 2
  told = capsys.readouterr().err
  assert steps in told and "--config" not in told, "which flag it was is not known there"
  assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
  "flags",
  [[], ["--data", ".", "--source", "lj:x"], ["--data", ".", "--steps", "a.py:b"], ["--data", ".", "--phones", "emova"]],
)
def test_a_mixture_takes_no_flags_of_one_set(tmp_path, capsys, flags):
  mixture = ["--config", "configs/emova/collections.py:alignment"]
  assert main(["prepare", *mixture, "--workdir", str(tmp_path), *flags]) == 2
  assert "--config with --source" in capsys.readouterr().err


def test_a_corpus_of_everything_that_is_wrong(tmp_path, capsys):
  images = tmp_path / "images"
  good = picture_bytes()
  write(images / "good.png", good)
  write(images / "cut.png", picture_bytes("PNG", (64, 64))[:60])
  write(images / "jpeg.png", picture_bytes("JPEG"))
  write(images / "zip.png", b"PK\x03\x04" + bytes(500))
  write(images / "huge.png", empty_png(20000, 10000))
  write(tmp_path / "outside.png", good)
  talks = {
    "good": ("good.png", talk("<image>\nwhat", "a dog")),
    **{name: (f"{name}.png", talk("<image>", "x")) for name in ("cut", "jpeg", "zip", "huge", "missing")},
    "escape": ("../outside.png", talk("<image>", "x")),
    "empty": (None, []),
    "roles": (None, talk("hi", "ho", roles=("gpt", "human"))),
    "range": (None, talk(units(4096), "x")),
  }
  items = [{"id": name, "image": image, "conversations": turns} for name, (image, turns) in talks.items()]
  lines = [*map(json.dumps, items), json.dumps(items[0])]
  notes = write(tmp_path / "notes.jsonl", "\n".join(lines).encode() + b'\n{"id": "\xff"}\n')
  command = [
    "prepare",
    "--source",
    f"llava:{notes}",
    "--set",
    f"images=('{images}',)",
    "--name",
    "talks",
    "--workers",
    "1",
  ]
  assert main([*command, "--workdir", str(tmp_path / "work")]) == 2  # 11 of 12 are more than one in a hundred
  assert "11 of 12 records cannot be used" in capsys.readouterr().err
  assert main([*command, "--workdir", str(tmp_path / "work"), "--max-rejected", "0.95"]) == 0
  folder = tmp_path / "work" / "corpus" / "talks"
  assert [record.id for record in open_set(folder, "train")] == ["good"]
  reasons = {line["id"]: line["reason"] for line in map(json.loads, (folder / "quarantine-train.jsonl").open())}
  expected = {
    "cut": "cannot read image", "jpeg": "content is JPEG", "zip": "cannot read image", "huge": "200000000 pixels",
    "missing": "no such file", "escape": "leads out", "empty": "empty conversation", "roles": "roles gpt, human",
    "range": "unit 4096", "good": "occurs twice", "notes/11": "no UTF-8",
  }  # fmt: skip
  assert reasons.keys() == expected.keys()
  assert not {name: reasons[name] for name, message in expected.items() if message not in reasons[name]}
