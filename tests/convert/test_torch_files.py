import errno
from pathlib import Path

import numpy as np
import pytest

from omni_jax.convert.torch_files import in_numpy, in_torch, read_torch, write_torch
from omni_jax.core.errors import UserError

pytest.importorskip("torch")

TENSORS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7)}


def test_tensors_come_back_and_nothing_else_is_left(tmp_path):
  path = tmp_path / "new" / "model.pth"
  write_torch(path, in_torch(TENSORS))
  found = in_numpy(read_torch(path), where=path)
  assert all(np.array_equal(found[name], value) for name, value in TENSORS.items())
  assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_told_and_the_earlier_file_stays(tmp_path, monkeypatch):
  path = tmp_path / "model.pth"
  write_torch(path, in_torch(TENSORS))
  earlier, write = path.read_bytes(), Path.write_bytes

  def full(path, data):
    write(path, data[: len(data) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(Path, "write_bytes", full)
  with pytest.raises(UserError, match="No space left on device"):
    write_torch(path, in_torch({"weight": np.zeros(9)}))
  assert path.read_bytes() == earlier and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"hello there", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_file_of_torch_is_told(tmp_path, data):
  (tmp_path / "model.pth").write_bytes(data)
  with pytest.raises(UserError, match=r"cannot read model\.pth: \w"):
    read_torch(tmp_path / "model.pth")


def test_objects_are_not_run(tmp_path):
  import torch

  torch.save({"made": Path("anything")}, tmp_path / "model.pth")
  with pytest.raises(UserError, match="tensors only"):
    read_torch(tmp_path / "model.pth")
  with pytest.raises(UserError, match="a list where tensors"):
    in_numpy([1], where=tmp_path)
