"""Files of the newest checkpoint are damaged: the one before is taken, and what was wrong is said."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint import store
from omni_jax.checkpoint.checksums import find_damage, write_checksums
from omni_jax.core import config
from omni_jax.core.errors import UserError
from tests.checkpoint.tiny import ALONE, abstract, make_stage

MOMENT = (jax.ShapeDtypeStruct((), jnp.float32, sharding=ALONE),)


@pytest.fixture(autouse=True)
def tiny_can_be_stored(monkeypatch):
  monkeypatch.setattr(config, "_PACKAGE", "tests")


def restore(folder, params):
  opened = store.Store(folder, keep=2)
  try:
    return opened.restore(params=abstract(params), moments=MOMENT)
  finally:
    opened.close()


def largest(folder):
  """The largest file of arrays, or of all where there are none."""
  files = [path for path in folder.rglob("*") if path.is_file()]
  return max(files, key=lambda path: (path.parent.name == "d", path.stat().st_size))


def flip(folder):
  path = largest(folder)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def cut(folder):
  path = largest(folder)
  path.write_bytes(path.read_bytes()[:-3])


def position_of(folder, name="process_0-of-1.json"):
  return folder / "position" / name


DAMAGE = {
  "a bit of a parameter": (lambda step: flip(step / "params"), "has other bytes than were written"),
  "a bit of a moment": (lambda step: flip(step / "moments"), "has other bytes than were written"),
  "a torn file": (lambda step: cut(step / "params"), "bytes, .* were written"),
  "a file": (lambda step: largest(step / "moments").unlink(), "is missing"),
  "a folder": (lambda step: shutil.rmtree(step / "params"), "is missing"),
  "the position": (lambda step: position_of(step).write_text('{"step": 3}'), "has other bytes"),
  "the checksums": (lambda step: cut(step / "position"), "checksums_0-of-1.json cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_taken(tmp_path, capsys, kind):
  params = make_stage(tmp_path, steps=(1, 2), keep=2)
  damage, told = DAMAGE[kind]
  step = store.checkpoints_folder(tmp_path) / "2"
  damage(step)
  restored = restore(tmp_path, params)
  assert restored.position == {"step": 1}
  jax.tree.map(np.testing.assert_array_equal, restored.params, params)
  said = capsys.readouterr().out
  assert "step 2 is damaged" in said and "going on from step 1" in said
  assert re.search(told, said), said
  assert store.latest_step(tmp_path) == 1 and (tmp_path / "damaged" / "2").is_dir()
  make_stage(tmp_path, steps=(2,), keep=2)  # the step is written again, as a run does that goes on
  assert restore(tmp_path, params).position == {"step": 2}


def test_without_checksums_only_what_orbax_sees_is_noticed(tmp_path):
  params = make_stage(tmp_path, steps=(1, 2), keep=2)
  for path in store.checkpoints_folder(tmp_path).rglob("checksums_*"):
    path.unlink()
  assert restore(tmp_path, params).position == {"step": 2}
  position_of(store.checkpoints_folder(tmp_path) / "2").write_text("{")
  assert restore(tmp_path, params).position == {"step": 1}


def test_where_every_checkpoint_is_damaged_all_stay(tmp_path):
  params = make_stage(tmp_path, steps=(1, 2), keep=2)
  for step in ("1", "2"):
    flip(store.checkpoints_folder(tmp_path) / step / "params")
  with pytest.raises(UserError, match=r"cannot read any checkpoint:\n    step 2: params/.*\n    step 1: params/"):
    restore(tmp_path, params)
  assert store.latest_step(tmp_path) == 2 and not (tmp_path / "damaged").exists()


def test_damaged_parameters_are_not_loaded_by_others(tmp_path):
  make_stage(tmp_path)
  step = store.checkpoints_folder(tmp_path) / "1"
  flip(step / "moments")
  store.load_model(tmp_path)  # which nobody else reads
  flip(step / "params")
  with pytest.raises(UserError, match="has other bytes than were written"):
    store.load_model(tmp_path)


def test_parts_of_the_files_are_checked_by_any_number_of_processes(tmp_path):
  for name in "abcde":
    (tmp_path / name).write_text(name * 3)
  (tmp_path / "position").mkdir()
  for part in range(2):
    write_checksums(tmp_path, folder="position", part=part, parts=2)
  assert [find_damage(tmp_path, folder="position", part=part, parts=3) for part in range(3)] == [None] * 3
  (tmp_path / "d").write_text("dde")
  found = [find_damage(tmp_path, folder="position", part=part, parts=3) for part in range(3)]
  assert found == ["d has other bytes than were written", None, None]
  assert find_damage(tmp_path, folder="position", items=("a", "b")) is None


def as_written_by(folder, positions):
  """Makes the position of the newest step that of so many processes."""
  step = store.checkpoints_folder(folder) / str(store.latest_step(folder))
  for path in (step / "position").iterdir():
    path.unlink()
  for number, data in enumerate(positions):
    position_of(step, f"process_{number}-of-{len(positions)}.json").write_text(json.dumps(data))
  write_checksums(step, folder="position", part=0, parts=1)
  return step


def test_a_position_that_all_processes_share_is_read_by_any_number(tmp_path):
  params = make_stage(tmp_path)
  as_written_by(tmp_path, [{"step": 7}] * 4)
  assert restore(tmp_path, params).position == {"step": 7}


def test_a_position_of_each_process_is_not_and_nothing_is_moved(tmp_path):
  params = make_stage(tmp_path, steps=(1, 2), keep=2)
  as_written_by(tmp_path, [{"step": 7}, {"step": 8}])
  with pytest.raises(UserError, match="2 processes wrote positions of the data that differ"):
    restore(tmp_path, params)
  assert store.latest_step(tmp_path) == 2 and not (tmp_path / "damaged").exists()


def test_processes_agree_on_the_position_before_any_loads(tmp_path, monkeypatch):
  params = make_stage(tmp_path)
  opened, told = store.Store(tmp_path, keep=1), [None, "another process cannot read it"]
  monkeypatch.setattr(store, "_first_told", lambda own: own or told.pop(0))
  monkeypatch.setattr(opened._checkpointer, "load_checkpointables", lambda *_: pytest.fail("orbax would wait for it"))
  with pytest.raises(UserError, match="step 1: another process cannot read it"):
    opened.restore(params=abstract(params), moments=MOMENT)
  assert not told
  opened.close()


def test_a_position_of_which_a_part_is_missing_is_damage(tmp_path, capsys):
  params = make_stage(tmp_path, steps=(1, 2), keep=2)
  step = as_written_by(tmp_path, [{"step": 7}] * 2)
  position_of(step, "process_1-of-2.json").unlink()
  position_of(step, "checksums_0-of-1.json").unlink()
  assert restore(tmp_path, params).position == {"step": 1}
  assert "some are missing" in capsys.readouterr().out
