import contextlib
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint import store
from omni_jax.checkpoint.card import write_card
from omni_jax.core import config
from omni_jax.core.errors import UserError
from tests.checkpoint.tiny import ALONE, TinyConfig, TinyRun, abstract, card_of, make_stage


@pytest.fixture(autouse=True)
def tiny_can_be_stored(monkeypatch):
  monkeypatch.setattr(config, "_PACKAGE", "tests")


def test_dotted_paths_nest_and_come_back():
  flat = {"a.b.c": 1, "a.b.d": 2, "e": 3}
  assert store.nest(flat) == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}
  assert store.flatten_nested(store.nest(flat)) == flat


def test_what_is_saved_is_restored_and_only_the_newest_stay(tmp_path):
  params = make_stage(tmp_path, steps=(1, 2, 3), keep=2)
  assert store.latest_step(tmp_path) == 3
  assert sorted(path.name for path in store.checkpoints_folder(tmp_path).iterdir()) == ["2", "3"]
  opened = store.Store(tmp_path, keep=2)
  moment = (jax.ShapeDtypeStruct((), jnp.float32, sharding=ALONE),)
  restored, moments, position = opened.restore(params=abstract(params), moments=moment)
  opened.close()
  assert position == {"step": 3} and float(moments[0]) == 1.0
  jax.tree.map(np.testing.assert_array_equal, restored, params)


def test_a_save_that_was_cut_off_is_not_a_checkpoint_and_is_removed(tmp_path):
  make_stage(tmp_path, steps=(5,))
  torn = store.checkpoints_folder(tmp_path) / "7.orbax-checkpoint-tmp"
  torn.mkdir()
  (torn / "piece").write_text("x")
  assert store.latest_step(tmp_path) == 5
  opened = store.Store(tmp_path, keep=1)
  assert opened.latest == 5
  opened.close()
  for _ in range(200):  # orbax removes it in a thread of its own
    if not torn.exists():
      break
    time.sleep(0.05)
  assert not torn.exists()


def test_the_model_comes_back_as_stored_or_cast(tmp_path):
  params = make_stage(tmp_path, value=0.5)
  model_configured, model = store.load_model(tmp_path)
  assert model_configured == TinyConfig(width=4)
  np.testing.assert_array_equal(model.first[...], params["first"])
  assert store.load_model(tmp_path, cast=jnp.bfloat16)[1].last[...].dtype == jnp.bfloat16


def test_a_damaged_checkpoint_is_told(tmp_path):
  make_stage(tmp_path)
  for path in (store.checkpoints_folder(tmp_path) / "1" / "params").rglob("*"):
    if path.is_file():
      path.write_bytes(b"\0" * 10)
  with pytest.raises(UserError, match="cannot read the checkpoint"):
    store.load_model(tmp_path)


def test_a_missing_item_is_told(tmp_path):
  params = make_stage(tmp_path)
  (store.checkpoints_folder(tmp_path) / "1" / "position" / "process_0-of-1.json").unlink()
  opened = store.Store(tmp_path, keep=1)
  with pytest.raises(UserError, match="cannot read the checkpoint"):
    opened.restore(params=abstract(params), moments=(jax.ShapeDtypeStruct((), jnp.float32, sharding=ALONE),))
  opened.close()


def test_a_stage_without_a_checkpoint_is_told(tmp_path):
  with pytest.raises(UserError, match="no such stage"):
    store.load_model(tmp_path)
  write_card(tmp_path, card_of(TinyRun(model=TinyConfig(width=4))))
  assert store.latest_step(tmp_path) is None
  with pytest.raises(UserError, match="no checkpoint"):
    store.load_model(tmp_path)


def test_a_checkpoint_of_another_config_is_told_name_by_name(tmp_path):
  make_stage(tmp_path)
  write_card(tmp_path, card_of(TinyRun(model=TinyConfig(width=5))))
  with pytest.raises(UserError, match=r"first: \(3, 4\) in the checkpoint, \(3, 5\) in the model"):
    store.load_model(tmp_path)


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
  params = make_stage(tmp_path)
  opened = store.Store(tmp_path, keep=1)
  monkeypatch.setattr(store.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
  with pytest.raises(UserError, match="the disk is full"):
    opened.save(2, params=params, moments=(jnp.ones(()),), position={})
  opened.close()
  assert store.latest_step(tmp_path) == 1


def test_a_folder_that_cannot_be_written_is_told_and_the_last_checkpoint_stays(tmp_path):
  params = make_stage(tmp_path)
  opened, folder = store.Store(tmp_path, keep=2), store.checkpoints_folder(tmp_path)
  others = set(threading.enumerate())
  folder.rename(tmp_path / "away")
  folder.write_text("in the way")
  with pytest.raises(UserError, match="was not saved"):
    opened.save(2, params=params, moments=(jnp.ones(()),), position={})
    opened.wait()
  assert set(threading.enumerate()) <= others, "no thread waits for a folder that does not come"
  folder.unlink()
  (tmp_path / "away").rename(folder)
  opened.close()
  assert store.latest_step(tmp_path) == 1 and store.stored_shapes(tmp_path, step=1).keys() == params.keys()


def save(opened, step):
  """Begins to save a state all of whose numbers are the step's."""
  params = {"first": jnp.full((64, 64), float(step)), "last": jnp.full((7,), float(step))}
  opened.save(step, params=params, moments=(jnp.full((), float(step)),), position={"step": step})
  return params


@contextlib.contextmanager
def held_back(monkeypatch):
  """Keeps the thread that writes from beginning, until the event that this gives is set."""
  goes_on, finish = threading.Event(), store.Store._finish

  def wait_and_finish(*arguments):
    assert goes_on.wait(60)
    finish(*arguments)

  monkeypatch.setattr(store.Store, "_finish", wait_and_finish)
  try:
    yield goes_on
  finally:
    goes_on.set()


def assert_is_whole(folder, step):
  """What is stored of a step is of this step alone."""
  shapes = abstract({"first": jnp.zeros((64, 64)), "last": jnp.zeros((7,))})
  for path, leaf in store.load_params(folder, shapes, step=step).items():
    np.testing.assert_array_equal(leaf, np.full(leaf.shape, float(step)), err_msg=path)


def test_a_save_while_the_one_before_is_written_waits_for_it(tmp_path, monkeypatch):
  opened = store.Store(tmp_path, keep=2)
  with held_back(monkeypatch) as goes_on:
    save(opened, 1)
    other = threading.Thread(target=save, args=(opened, 2))
    other.start()
    other.join(0.5)
    assert other.is_alive(), "else it would copy into memory that is being written"
    goes_on.set()
    other.join(60)
  opened.close()
  assert_is_whole(tmp_path, 1)
  assert_is_whole(tmp_path, 2)


def test_a_step_that_consumes_the_state_leaves_what_is_being_written_alone(tmp_path, monkeypatch):
  opened = store.Store(tmp_path, keep=1)
  step = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf + 7, params), donate_argnums=0)
  with held_back(monkeypatch) as goes_on:
    jax.block_until_ready(step(save(opened, 1)))
    goes_on.set()
  opened.close()
  assert_is_whole(tmp_path, 1)


def test_what_the_writer_met_is_raised_by_the_next_save_and_the_one_after_is_whole(tmp_path, monkeypatch):
  opened = store.Store(tmp_path, keep=3)
  save(opened, 1)
  opened.wait()
  with monkeypatch.context() as full:
    full.setattr(store.Store, "_begin", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    save(opened, 2)
    with pytest.raises(UserError, match="the disk is full: the checkpoint under way was not saved"):
      save(opened, 3)
  assert store.latest_step(tmp_path) == 1
  save(opened, 4)
  save(opened, 5)
  opened.close()
  for number in (1, 4, 5):
    assert_is_whole(tmp_path, number)


def test_memory_is_mapped_though_a_step_consumes_the_state_meanwhile(tmp_path, monkeypatch):
  opened = store.Store(tmp_path, keep=1)
  params = {"first": jnp.ones((64, 64))}
  goes_on, submit = threading.Event(), opened._finisher.submit
  with monkeypatch.context() as late:
    late.setattr(opened._finisher, "submit", lambda call, *given: submit(lambda: goes_on.wait(60) and call(*given)))
    opened.prepare(params=params, moments=None)
  jax.block_until_ready(jax.jit(lambda params: params["first"] + 1, donate_argnums=0)(params))
  assert params["first"].is_deleted()
  goes_on.set()
  save(opened, 1)
  opened.close()
  assert_is_whole(tmp_path, 1)


def test_an_address_is_no_folder():
  with pytest.raises(UserError, match=r"gs://bucket/run/stages/one is an address[\s\S]*gcsfuse"):
    store.latest_step(Path("gs://bucket/run/stages/one"))
