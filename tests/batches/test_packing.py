import grain
import numpy as np
import pytest

from omni_jax.batches.packing import fits, pack
from omni_jax.batches.sources import Sample


def samples(count: int, draw) -> list[Sample]:
  made = []
  for index in range(count):
    size, cells = draw.integers(2, 12), draw.integers(0, 3)
    tokens = np.full(size, index + 1, np.int32)
    ones = np.ones(size)
    patches = np.full((cells * 4, 6), index + 1, np.uint8)
    made.append(
      Sample(tokens, tokens, ones.astype(np.float32), ones.astype(np.int8), patches, np.zeros((cells * 4, 2), np.int32))
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
          own = batch["patches"][row][batch["patch_segment_ids"][row] == segment]
          assert own.shape == made[name - 1].patches.shape and np.all(own == name)
  assert len(seen) == len(set(seen)) and len(seen) > 110, "a last batch that is not full is left out"


def test_what_does_not_fit_is_told():
  (sample,) = samples(1, np.random.default_rng(5))
  assert fits(sample, length=64, patches=64) == ""
  assert "a row has 1" in fits(sample, length=1, patches=64)
  wide = sample._replace(patches=np.zeros((8, 6), np.uint8))
  assert fits(wide, length=64, patches=4) == "8 patches, a row has 4"
