from pathlib import Path

import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_together, write_whole


@pytest.mark.parametrize("content", ["text ä", b"\x00\xff"])
def test_content_comes_back_and_nothing_else_is_left(tmp_path, content):
  path = tmp_path / "new" / "file.json"
  write_whole(path, "old")
  write_whole(path, content)
  assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
  assert [item.name for item in path.parent.iterdir()] == ["file.json"]


def test_a_full_disk_is_told_and_the_earlier_file_stays(tmp_path, monkeypatch):
  path = tmp_path / "file.json"
  write_whole(path, "old")

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("os.replace", full)
  with pytest.raises(UserError, match="No space left"):
    write_whole(path, "new")
  assert path.read_text() == "old" and [item.name for item in tmp_path.iterdir()] == ["file.json"]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="the folder can be written"):
    write_whole(tmp_path / "file" / "inner.json", "new")


def test_files_that_belong_together_are_all_written_or_none(tmp_path, monkeypatch):
  first, second = tmp_path / "a" / "first", tmp_path / "b" / "second"
  write_together({first: "1", second: b"2"})
  write, calls = Path.write_bytes, []

  def full(path, data):
    calls.append(path)
    if len(calls) == 2:
      raise OSError(28, "No space left on device")
    return write(path, data)

  monkeypatch.setattr(Path, "write_bytes", full)
  with pytest.raises(UserError, match="No space left") as told:
    write_together({first: "new", second: "new"})
  assert told.value.where == str(second)
  assert first.read_text() == "1" and second.read_text() == "2"
  assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["first", "second"]
