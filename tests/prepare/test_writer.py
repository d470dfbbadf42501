import json

import grain
import pytest
import tensorflow_datasets as tfds

from omni_jax.core.errors import UserError
from omni_jax.prepare import writer
from omni_jax.prepare.reader import open_set, verify_split
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split


def examples(count, prefix="e"):
  return [Example(f"{prefix}/{index}", "text", (Turn("assistant", f"sentence {index}"),)) for index in range(count)]


@pytest.mark.parametrize("shards", [1, 3])
def test_tensorflow_datasets_reads_what_was_written(tmp_path, shards):
  assert write_split(tmp_path / "text", "train", examples(7), shards=shards) == 7
  write_split(tmp_path / "text", "test", examples(2))
  source = tfds.builder_from_directory(tmp_path / "text").as_data_source(split="train")
  assert [source[index]["id"].decode() for index in range(len(source))] == [f"e/{index}" for index in range(7)]
  assert list(open_set(tmp_path / "text", "test")) == examples(2)


def test_grain_reads_and_shuffles(tmp_path):
  write_split(tmp_path / "text", "train", examples(9))
  dataset = grain.MapDataset.source(open_set(tmp_path / "text", "train")).shuffle(seed=1)
  assert sorted(example.id for example in dataset) == sorted(example.id for example in examples(9))


def test_writing_again_replaces_the_split_and_its_old_shards(tmp_path):
  write_split(tmp_path / "text", "train", examples(6), shards=3)
  write_split(tmp_path / "text", "train", examples(4, "new"), shards=2)
  assert list(open_set(tmp_path / "text", "train")) == examples(4, "new")
  assert len(list((tmp_path / "text").glob("text-train*"))) == 2


@pytest.mark.parametrize(
  ("broken", "message"),
  [([], "no records"), (examples(1) * 2, "occurs twice"), ([Example("x", "dance", ())], "unknown task")],
)
def test_a_refused_split_leaves_the_earlier_one(tmp_path, broken, message):
  write_split(tmp_path / "text", "train", examples(3))
  with pytest.raises(UserError, match=message):
    write_split(tmp_path / "text", "train", broken)
  assert list(open_set(tmp_path / "text", "train")) == examples(3)
  assert not list((tmp_path / "text").glob(".*"))


def test_an_interruption_before_the_metadata_leaves_the_earlier_split(tmp_path, monkeypatch):
  write_split(tmp_path / "text", "train", examples(3))

  def interrupted(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(writer, "publish", interrupted)
  with pytest.raises(KeyboardInterrupt):
    write_split(tmp_path / "text", "train", examples(5))
  assert list(open_set(tmp_path / "text", "train")) == examples(3)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
  def full(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(writer, "_write_metadata", full)
  with pytest.raises(UserError, match="No space left"):
    write_split(tmp_path / "text", "train", examples(3))
  assert not list((tmp_path / "text").iterdir())


def test_what_goes_wrong_in_making_examples_is_no_full_disk(tmp_path):
  def broken():
    yield examples(1)[0]
    raise RuntimeError("a process died")

  with pytest.raises(RuntimeError, match="a process died"):
    write_split(tmp_path / "text", "train", broken())
  assert not list((tmp_path / "text").iterdir())


def test_checksums_name_the_shard_that_changed(tmp_path):
  write_split(tmp_path / "text", "train", examples(6), shards=2)
  assert write_split(tmp_path / "text", "test", examples(2)) == 2
  assert verify_split(tmp_path / "text", "train") == 2
  path = tmp_path / "text" / "text-train.array_record-00001-of-00002"
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 255
  path.write_bytes(data)
  with pytest.raises(UserError, match="another than the one") as error:
    verify_split(tmp_path / "text", "train")
  assert error.value.where == str(path)
  write_split(tmp_path / "text", "train", examples(3))
  assert verify_split(tmp_path / "text", "train") == 1
  assert len(json.loads((tmp_path / "text" / "checksums.json").read_text())) == 2  # one of each split


def test_a_damaged_record_is_named_with_its_shard(tmp_path):
  write_split(tmp_path / "text", "train", examples(6), shards=2)
  path = tmp_path / "text" / "text-train.array_record-00001-of-00002"
  data = path.read_bytes()
  path.write_bytes(data[:384] + bytes(20) + data[404:])  # within the second of its records
  assert open_set(tmp_path / "text", "train")[3] == examples(6)[3]
  with pytest.raises(UserError, match=r"record 1 \(number 4 of split train\)") as error:
    open_set(tmp_path / "text", "train")[4]
  assert error.value.where == str(path)


def test_damaged_or_foreign_metadata_is_told(tmp_path):
  write_split(tmp_path / "text", "train", examples(1))
  path = tmp_path / "text" / "dataset_info.json"
  info = json.loads(path.read_text())
  path.write_text(json.dumps({**info, "version": "0.0.1"}))
  with pytest.raises(UserError, match="schema version"):
    open_set(tmp_path / "text", "train")
  path.write_text("{")
  with pytest.raises(UserError, match="damaged metadata"):
    open_set(tmp_path / "text", "train")
