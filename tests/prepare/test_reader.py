import pickle

import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split


def examples(count):
  return [Example(f"e/{index}", "text", (Turn("assistant", f"sentence {index}"),)) for index in range(count)]


@pytest.fixture
def folder(tmp_path):
  write_split(tmp_path / "text", "train", examples(5), shards=2)
  return tmp_path / "text"


def test_random_access_survives_pickling(folder):
  source = open_set(folder, "train")
  assert source[3] == examples(5)[3]
  copy = pickle.loads(pickle.dumps(source))
  assert [copy[index] for index in (4, 0)] == [examples(5)[4], examples(5)[0]]
  assert len(copy) == 5
  with pytest.raises(IndexError):
    source[5]


def test_missing_things_are_told(folder, tmp_path):
  with pytest.raises(UserError, match="no split 'test'"):
    open_set(folder, "test")
  with pytest.raises(UserError, match="no split"):
    open_set(tmp_path / "nothing", "train")
  next(folder.glob("text-train*00001*")).unlink()
  with pytest.raises(UserError, match="no such shard"):
    open_set(folder, "train")


def test_a_damaged_shard_is_told(folder):
  path = next(folder.glob("text-train*00000-of*"))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(UserError, match="damaged"):
    open_set(folder, "train")[0]


def test_flipped_bytes_are_told(folder):
  path = next(folder.glob("text-train*00000-of*"))
  data = bytearray(path.read_bytes())
  data[64:4096] = bytes(4032)  # the first chunks; each carries a hash
  path.write_bytes(bytes(data))
  with pytest.raises(UserError, match="damaged"):
    _ = [open_set(folder, "train")[index] for index in range(2)]
