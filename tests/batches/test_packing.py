import itertools

import grain
import numpy as np
import pytest

from omni_jax.batches.packing import fits, pack
from omni_jax.batches.sources import NO_PATCH, Sample


def samples(count: int, draw) -> list[Sample]:
  made = []
  for index in range(count):
    size, cells = draw.integers(2, 12), draw.integers(0, 3)
    tokens = np.full(size, index + 1, np.int32)
    ones = np.ones(size)
    patches = np.full((cells * 4, 6), index + 1, np.uint8)
    made.append(
      Sample(
        tokens=tokens,
        positions=np.arange(size, dtype=np.int32),
        branch_ids=np.zeros(size, np.int32),
        targets=tokens,
        loss_mask=ones.astype(np.float32),
        target_kind=ones.astype(np.int8),
        patches=patches,
        patch_positions=np.zeros((cells * 4, 2), np.int32),
      )
    )
  return made


@pytest.mark.parametrize("patches", [0, 16])
def test_samples_stay_whole_and_none_is_lost(patches):
  made = samples(120, np.random.default_rng(0))
  stream = grain.MapDataset.source(made).to_iter_dataset(grain.ReadOptions(num_threads=0))
  seen = []
  for batch in pack(stream, rows=2, length=16, patches=patches):
    assert batch["tokens"].shape == (2, 16) and ("patches" in batch) == (patches > 0)
    assert batch["positions"].dtype == batch["segment_ids"].dtype == np.int32
    for row in range(2):
      for segment in range(1, batch["segment_ids"][row].max() + 1):
        places = batch["segment_ids"][row] == segment
        (name,) = set(batch["tokens"][row][places].tolist())
        seen.append(name)
        assert places.sum() == len(made[name - 1].tokens)
        np.testing.assert_array_equal(batch["positions"][row][places], np.arange(places.sum()))
        if patches:
          (patches_of_row,), (segments,) = batch["patches"][row], batch["patch_segment_ids"][row]  # one window
          own = patches_of_row[segments == segment]
          assert own.shape == made[name - 1].patches.shape and np.all(own == name)
  assert len(seen) == len(set(seen)) and len(seen) > 110, "a last batch that is not full is left out"


def test_every_image_fills_a_window_of_its_own():
  made = []
  for sample in samples(60, np.random.default_rng(0)):
    padding = ((0, 8 - len(sample.patches)), (0, 0)) if len(sample.patches) else ((0, 0), (0, 0))
    positions = np.pad(sample.patch_positions, padding, constant_values=NO_PATCH)
    made.append(sample._replace(patches=np.pad(sample.patches, padding), patch_positions=positions))
  stream = grain.MapDataset.source(made).to_iter_dataset(grain.ReadOptions(num_threads=0))
  for batch in pack(stream, rows=2, length=16, patches=24, window=8):
    assert batch["patches"].shape == (2, 3, 8, 6) and batch["patch_positions"].min() == 0
    for row, window in itertools.product(range(2), range(3)):
      segments = batch["patch_segment_ids"][row, window]
      is_patch = batch["patches"][row, window, :, 0] > 0
      np.testing.assert_array_equal(segments > 0, is_patch)
      assert len(set(segments[is_patch].tolist())) <= 1


def test_what_does_not_fit_is_told():
  (sample,) = samples(1, np.random.default_rng(5))
  assert fits(sample, length=64, patches=64) == ""
  assert "a row has 1" in fits(sample, length=1, patches=64)
  wide = sample._replace(patches=np.zeros((8, 6), np.uint8))
  assert fits(wide, length=64, patches=4) == "8 patches, a row has 4"
