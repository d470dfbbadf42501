import pickle

import numpy as np
import pytest

from omni_jax.batches.plan import BLOCK_ROWS, Plan
from omni_jax.core.errors import UserError
from tests.batches.test_planner import make


@pytest.fixture
def plan(tmp_path):
  return Plan(make(0)[1], folder=tmp_path, identity=["a"])


def test_rows_are_those_that_were_planned(plan, tmp_path):
  planned, _ = make(0)[1].plan(make(0)[1].begin(), BLOCK_ROWS + 2)
  for number in (0, 1, 77, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3):
    start = planned.ends[number - 1] if number else 0
    np.testing.assert_array_equal(plan.row(number), planned.entries[start : planned.ends[number]])
  names = sorted(path.name for path in plan.folder.iterdir())
  assert names == ["00000.rows", "00001.rows"] and plan.folder.parent == tmp_path


def test_a_far_row_is_planned_and_the_same_after_files_were_lost(plan):
  row = plan.row(2 * BLOCK_ROWS + 5).copy()
  files = {path.name: path.read_bytes() for path in plan.folder.iterdir()}
  assert len(files) == 3
  (plan.folder / "00001.rows").unlink()
  (plan.folder / "00002.rows").unlink()
  again = Plan(make(0)[1], folder=plan.folder.parent, identity=["a"])
  np.testing.assert_array_equal(again.row(2 * BLOCK_ROWS + 5), row)
  assert {path.name: path.read_bytes() for path in plan.folder.iterdir()} == files
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).row(2 * BLOCK_ROWS + 5), row)


def test_another_identity_has_a_folder_of_its_own(plan, tmp_path):
  assert Plan(make(0)[1], folder=tmp_path, identity=["b"]).folder != plan.folder


@pytest.mark.parametrize("damage", [b"", b"omniplan", None])
def test_a_damaged_file_is_named(plan, damage):
  plan.extend(1)
  (path,) = plan.folder.iterdir()
  data = bytearray(path.read_bytes())
  data[-3] ^= 1
  path.write_bytes(bytes(data) if damage is None else damage)
  with pytest.raises(UserError, match="damaged plan") as caught:
    Plan(make(0)[1], folder=plan.folder.parent, identity=["a"]).row(0)
  assert caught.value.where == str(path)


def test_a_full_disk_leaves_no_file(tmp_path):
  (tmp_path / "plans").write_text("not a folder")
  plan = Plan(make(0)[1], folder=tmp_path / "plans", identity=["a"])
  with pytest.raises(UserError, match="cannot write"):
    plan.row(0)
