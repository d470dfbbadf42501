import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from omni_jax.convert.emova import emova_rules, emova_shapes
from omni_jax.convert.folders import INDEX, SINGLE, write_json
from omni_jax.convert.shards import Folder, write_folder
from omni_jax.convert.table import Rule, export_stream, export_tensors, import_leaves
from omni_jax.convert.tensors import Without
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from tests.devices import environment
from tests.models.twins import emova_config

CONFIG = emova_config(tied=False)
EIGHT = "test_each_device_gets_its_part"


@pytest.fixture(scope="module")
def leaves():
  model = CONFIG.make(key=jax.random.key(0))
  return {path: leaf.astype("bfloat16") for path, leaf in trees.flatten(model).items()}


@pytest.fixture
def folder(leaves, tmp_path):
  write_folder(tmp_path / "model", export_stream(emova_rules(CONFIG), leaves), shard_bytes=4000)
  return tmp_path / "model"


def imported(folder, places=None):
  return import_leaves(emova_rules(CONFIG), Folder(folder), shapes=emova_shapes(CONFIG), places=places)


def test_a_round_trip_through_shards_is_bit_for_bit(folder, leaves, tmp_path):
  assert len(list(folder.glob("*.safetensors"))) > 3 and not list(folder.glob("*.partial"))
  found = imported(folder)
  assert all(np.array_equal(found[path].view("uint16"), leaves[path].view("uint16")) for path in leaves)
  write_folder(tmp_path / "again", export_stream(emova_rules(CONFIG), found), shard_bytes=4000)
  for path in folder.glob("model*"):
    assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_streamed_tensors_are_those_of_the_table(folder, leaves):
  at_once = export_tensors(emova_rules(CONFIG), {path: np.asarray(leaf) for path, leaf in leaves.items()})
  read = Folder(folder)
  assert at_once.keys() == read.keys() and all(at_once[name].tobytes() == read[name].tobytes() for name in read)


def test_each_device_gets_its_part(folder, leaves):
  if jax.device_count() < 8:  # the number of devices is fixed when a process starts
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{EIGHT}"]
    done = subprocess.run(command, env=environment(8), capture_output=True, text=True, check=False)
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
    import_leaves(rules, Folder(folder), shapes=shapes)
  assert "+ " in str(caught.value)
  hidden = Without(Folder(folder), ["model.norm.weight"])
  with pytest.raises(UserError, match=r"\+ model.norm.weight"):
    import_leaves(emova_rules(CONFIG), hidden, shapes=shapes)


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


def test_what_the_disk_refuses_is_told_and_leaves_the_old_weights(folder, leaves):
  resource = pytest.importorskip("resource")
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # as a full disk: a file cannot grow beyond
  try:
    with pytest.raises(UserError, match="cannot write the weights"):
      write_folder(folder, export_stream(emova_rules(CONFIG), leaves))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
  with pytest.raises(UserError, match="cannot write the weights"):
    write_folder(folder / INDEX, export_stream(emova_rules(CONFIG), leaves))


def test_shards_of_any_name_are_read_through_the_index(tmp_path):
  for name in ("a", "b"):
    write_folder(tmp_path, [(name, np.ones(2, np.float32))])
    (tmp_path / SINGLE).rename(tmp_path / f"{name}.safetensors")
  write_json(tmp_path / INDEX, {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})
  assert {name: Folder(tmp_path).shape(name) for name in Folder(tmp_path)} == {"a": (2,), "b": (2,)}
