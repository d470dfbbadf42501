import itertools

import grain
import numpy as np
import pytest

from omni_jax.batches.packing import fits, pack
from omni_jax.batches.pictures import TileSize
from omni_jax.batches.sources import NO_PATCH, ImageSize, Sample
from omni_jax.prepare.tiles import GRIDS_OF_NINE, NEWLINE, TileLayout

PATCHES = ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=512)
TILES = TileSize(layout=TileLayout(side=4, cells=2, newline=True), grids=GRIDS_OF_NINE)


def samples(count: int, draw) -> list[Sample]:
  made = []
  for index in range(count):
    size, cells = draw.integers(2, 12), draw.integers(0, 3)
    tokens = np.full(size, index + 1, np.int32)
    ones = np.ones(size)
    patches = np.full((cells * 4, 6), index + 1, np.uint8)
    positions = np.array([(0, column) for column in range(cells * 4)], np.int32).reshape(-1, 2)
    made.append(
      Sample(
        tokens=tokens,
        positions=np.arange(size, dtype=np.int32),
        branch_ids=np.zeros(size, np.int32),
        targets=tokens,
        loss_mask=ones.astype(np.float32),
        target_kind=ones.astype(np.int8),
        images={"patches": patches, "patch_positions": positions},
      )
    )
  return made


@pytest.mark.parametrize("patches", [0, 16])
def test_samples_stay_whole_and_none_is_lost(patches):
  made = samples(120, np.random.default_rng(0))
  stream = grain.MapDataset.source(made).to_iter_dataset(grain.ReadOptions(num_threads=0))
  seen = []
  for batch in pack(stream, rows=2, length=16, images=PATCHES, pieces=patches):
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
          own = patches_of_row[patches_of_row[:, 0] == name]
          assert own.shape == made[name - 1].images["patches"].shape
          numbers = set(segments[patches_of_row[:, 0] == name].tolist())
          assert len(numbers) <= 1 and 0 not in numbers, "one image, one number"
  assert len(seen) == len(set(seen)) and len(seen) > 110, "a last batch that is not full is left out"


def test_every_image_fills_a_window_of_its_own():
  made = []
  for sample in samples(60, np.random.default_rng(0)):
    patches, positions = sample.images["patches"], sample.images["patch_positions"]
    padding = ((0, -len(patches) % 8), (0, 0))
    positions = np.pad(positions, padding, constant_values=NO_PATCH)
    made.append(sample._replace(images={"patches": np.pad(patches, padding), "patch_positions": positions}))
  stream = grain.MapDataset.source(made).to_iter_dataset(grain.ReadOptions(num_threads=0))
  windows = ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=128, window=8)
  for batch in pack(stream, rows=2, length=16, images=windows, pieces=24):
    assert batch["patches"].shape == (2, 3, 8, 6) and batch["patch_positions"].min() == 0
    for row, window in itertools.product(range(2), range(3)):
      segments = batch["patch_segment_ids"][row, window]
      is_patch = batch["patches"][row, window, :, 0] > 0
      np.testing.assert_array_equal(segments > 0, is_patch)
      assert len(set(segments[is_patch].tolist())) <= 1


def tiled(count, draw):
  """Returns samples of a pixel's worth of images each, or none; the image's places stand first."""
  made = []
  for index, sample in enumerate(samples(count, draw)):
    sizes = draw.integers(3, 20, (draw.integers(0, 3), 2))
    images = TILES.read([np.full((*size, 3), index + 1, np.uint8) for size in sizes])
    tokens = np.concatenate([np.full(sum(images.places), -1), sample.tokens]).astype(np.int32)
    fields = {name: np.resize(getattr(sample, name), len(tokens)) for name in ("targets", "loss_mask", "target_kind")}
    places = np.arange(len(tokens), dtype=np.int32)
    made.append(
      Sample(tokens=tokens, positions=places, branch_ids=np.zeros_like(places), images=images.arrays, **fields)
    )
  return [sample for sample in made if len(sample.tokens) <= 200 and len(sample.images["tiles"]) <= 20]


def seen(tokens, tiles, layout):
  """Returns what each image place of a row shows: the pixels of its tile and its number there, or a newline."""
  found = []
  for number in layout[: (tokens == -1).sum()].tolist():
    found.append("newline" if number == NEWLINE else (tiles[number // 4].tobytes(), number % 4))
  return found


def test_tiles_in_a_row_are_as_alone():
  made = tiled(80, np.random.default_rng(0))
  stream = grain.MapDataset.source(made).to_iter_dataset(grain.ReadOptions(num_threads=0))
  count = 0
  for batch in pack(stream, rows=2, length=200, images=TILES, pieces=20):
    shapes = {name: batch[name].shape for name in ("tiles", "tile_layout", "tile_segment_ids")}
    assert shapes == {"tiles": (2, 20, 4, 4, 3), "tile_layout": (2, 200), "tile_segment_ids": (2, 20)}
    for row in range(2):
      tokens, expected = batch["tokens"][row], []
      for segment in range(1, batch["segment_ids"][row].max() + 1):
        name = tokens[batch["segment_ids"][row] == segment].max()
        (sample,) = (sample for sample in made if sample.tokens[-1] == name)
        alone = TILES.row(TILES.read([])._replace(arrays=sample.images))
        expected += seen(sample.tokens, alone["tiles"], alone["tile_layout"])
        count += 1
      assert seen(tokens, batch["tiles"][row], batch["tile_layout"][row]) == expected
      used = batch["tile_segment_ids"][row] > 0
      assert not batch["tiles"][row][~used].any() and batch["tiles"][row][used].any(axis=(1, 2, 3)).all()
  assert count > 30


def test_what_does_not_fit_is_told():
  (sample,) = samples(1, np.random.default_rng(5))
  lengths = {"tokens": 64, "patches": 64}
  assert fits(sample, lengths) == ""
  assert "tokens, a row has 1" in fits(sample, lengths | {"tokens": 1})
  wide = sample._replace(images={"patches": np.zeros((8, 6), np.uint8)})
  assert fits(wide, lengths | {"patches": 4}) == "8 patches, a row has 4"
