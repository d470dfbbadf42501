import numpy as np
import pytest

from omni_jax.convert.folders import INDEX, SINGLE, read_json, read_tensors, write_json, write_tensors
from omni_jax.core.errors import UserError


def test_tensors_come_back_also_in_bfloat16(tmp_path):
  ml_dtypes = pytest.importorskip("ml_dtypes")
  tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.ones(3, ml_dtypes.bfloat16)}
  write_tensors(tmp_path, tensors)
  found = read_tensors(tmp_path)
  for name, tensor in tensors.items():
    assert found[name].dtype == tensor.dtype
    np.testing.assert_array_equal(found[name], tensor)
  assert [path.name for path in tmp_path.iterdir()] == [SINGLE]


def test_shards_are_read_through_the_index(tmp_path):
  for name in ("a", "b"):
    write_tensors(tmp_path, {name: np.ones(2, np.float32)})
    (tmp_path / SINGLE).rename(tmp_path / f"{name}.safetensors")
  write_json(tmp_path / INDEX, {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})
  assert set(read_tensors(tmp_path)) == {"a", "b"}
  (tmp_path / "b.safetensors").write_bytes(b"damaged")
  with pytest.raises(UserError, match=r"cannot read b\.safetensors"):
    read_tensors(tmp_path)


def test_missing_files_are_told(tmp_path):
  with pytest.raises(UserError, match="cannot read"):
    read_tensors(tmp_path)
  with pytest.raises(UserError, match=r"config\.json"):
    read_json(tmp_path / "config.json")
