import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from omni_jax.convert.emova import emova_rules, emova_shapes
from omni_jax.convert.folders import INDEX, SINGLE, read_tensors
from omni_jax.convert.shards import Folder, Without, export_stream, finite, import_arrays, write_folder
from omni_jax.convert.table import Rule, export_tensors
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from tests.models.twins import emova_config

CONFIG = emova_config(tied=False)
EIGHT = "test_each_device_gets_its_part"
ALONE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


@pytest.fixture(scope="module")
def leaves():
  model = CONFIG.make(key=jax.random.key(0))
  return {path: leaf.astype("bfloat16") for path, leaf in trees.flatten(model).items()}


@pytest.fixture
def folder(leaves, tmp_path):
  write_folder(tmp_path / "model", export_stream(emova_rules(CONFIG), leaves), shard_bytes=4000)
  return tmp_path / "model"


def imported(folder, shardings=None):
  shapes = emova_shapes(CONFIG)
  return import_arrays(
    emova_rules(CONFIG), Folder(folder), shapes=shapes, shardings=shardings or dict.fromkeys(shapes, ALONE)
  )


def test_a_round_trip_through_shards_is_bit_for_bit(folder, leaves, tmp_path):
  assert len(list(folder.glob("*.safetensors"))) > 3 and not list(folder.glob("*.partial"))
  found = imported(folder)
  assert all(np.array_equal(found[path].view("uint16"), leaves[path].view("uint16")) for path in leaves)
  write_folder(tmp_path / "again", export_stream(emova_rules(CONFIG), found), shard_bytes=4000)
  for path in folder.glob("model*"):
    assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_streamed_tensors_are_those_of_the_table(folder, leaves):
  at_once = export_tensors(emova_rules(CONFIG), {path: np.asarray(leaf) for path, leaf in leaves.items()})
  read = read_tensors(folder)
  assert at_once.keys() == read.keys() and all(at_once[name].tobytes() == read[name].tobytes() for name in read)


def test_each_device_gets_its_part(folder, leaves):
  if jax.device_count() < 8:  # the number of devices is fixed when a process starts
    flags = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{EIGHT}"]
    done = subprocess.run(command, env=flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return
  mesh = jax.make_mesh((2, 4), ("a", "b"))
  shardings = {}
  for path, leaf in leaves.items():
    axes = [
      name if size % mesh.shape[name] == 0 else None for name, size in zip(("a", "b"), leaf.shape[-2:], strict=False)
    ]
    shardings[path] = NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - len(axes)), *axes))
  found = imported(folder, shardings)
  assert any(not leaf.is_fully_replicated for leaf in found.values())
  assert all(np.array_equal(found[path].view("uint16"), leaves[path].view("uint16")) for path in leaves)


def test_one_shard_has_no_index_and_replaces_older_weights(folder, leaves):
  write_folder(folder, export_stream(emova_rules(CONFIG), leaves))
  assert [path.name for path in folder.iterdir()] == [SINGLE]


def test_a_folder_is_checked_before_it_is_read(folder):
  shapes = emova_shapes(CONFIG)
  rules = [*emova_rules(CONFIG)[1:], Rule("model.unknown.weight", ("decoder.norm.scale",))]
  with pytest.raises(UserError, match="used twice") as caught:
    import_arrays(rules, Folder(folder), shapes=shapes, shardings=dict.fromkeys(shapes, ALONE))
  assert "+ " in str(caught.value)
  hidden = Without(Folder(folder), ["model.norm.weight"])
  with pytest.raises(UserError, match=r"\+ model.norm.weight"):
    import_arrays(emova_rules(CONFIG), hidden, shapes=shapes, shardings=dict.fromkeys(shapes, ALONE))


def test_damaged_folders_are_told_with_every_fault(folder, tmp_path):
  shards = sorted(folder.glob("*.safetensors"))
  whole = shards[0].read_bytes()
  shards[0].write_bytes(whole[: len(whole) // 2])
  shards[1].unlink()
  with pytest.raises(UserError) as caught:
    Folder(folder)
  assert shards[0].name in str(caught.value) and shards[1].name in str(caught.value)
  (tmp_path / "pickled").mkdir()
  (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
  with pytest.raises(UserError, match="never opened"):
    Folder(tmp_path / "pickled")
  (folder / INDEX).write_text("{}")
  with pytest.raises(UserError, match="weight_map"):
    Folder(folder)


def test_an_index_that_names_other_tensors_is_refused(folder):
  text = (folder / INDEX).read_text()
  (folder / INDEX).write_text(text.replace('"model.norm.weight"', '"model.morn.weight"'))
  with pytest.raises(UserError, match=r"\+ model.morn.weight") as caught:
    Folder(folder)
  assert "- model.norm.weight" in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_finite_looks_at_every_value(dtype):
  values = np.array([0.0, -1.5, 3e4], jax.numpy.dtype(dtype))
  assert finite(values)
  for bad in (np.inf, -np.inf, np.nan):
    assert not finite(np.append(values, np.array([bad], values.dtype)))


def test_weights_that_are_not_finite_are_named(leaves, tmp_path):
  spoilt = {**leaves, "decoder.norm.scale": leaves["decoder.norm.scale"].at[1].set(np.nan)}
  write_folder(tmp_path, export_stream(emova_rules(CONFIG), spoilt))
  with pytest.raises(UserError, match=r"not finite:\n    model\.norm\.weight"):
    imported(tmp_path)


def test_a_failed_write_leaves_the_old_weights(folder, leaves):
  before = {path.name: path.read_bytes() for path in folder.iterdir()}

  def broken():
    yield from list(export_stream(emova_rules(CONFIG), leaves))[:3]
    raise OSError("disk")

  with pytest.raises(OSError, match="disk"):
    write_folder(folder, broken(), shard_bytes=100)
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
