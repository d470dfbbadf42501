import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from omni_jax.batches import pictures
from omni_jax.batches.pictures import Square, TileSize
from omni_jax.batches.sources import ImageSize
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.images import patchify
from omni_jax.prepare.tiles import GRIDS_OF_NINE, NEWLINE, TileLayout, cut_tiles, padded, tile_layout

LAYOUT = TileLayout(side=8, cells=2, newline=True)
TILES = TileSize(layout=LAYOUT, grids=GRIDS_OF_NINE)
PATCHES = ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=1024)
SIZES = [(9, 30), (16, 16), (40, 7)]


def pixels(height, width):
  return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def file(height, width, kind="PNG"):
  data = io.BytesIO()
  Image.fromarray(pixels(height, width)).save(data, kind)
  return data.getvalue()


def vectors(row):
  """Returns what stands at each place: the tile's own pixels and the number of the vector in it, or a newline."""
  cells = LAYOUT.cells**2
  return [
    "newline" if number == NEWLINE else (row["tiles"][number // cells].tobytes(), number % cells)
    for number in row["tile_layout"].tolist()
  ]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_and_layout_of_an_image_are_those_of_the_release(size):
  read = TILES.read([file(*size)])
  squares, grid = cut_tiles(pixels(*size), grids=GRIDS_OF_NINE, side=8)
  expected = tile_layout(*size, grid=grid, cells=2)
  assert read.places == (len(expected),), "counted without decoding: newlines in, black out"
  row = TILES.row(read)
  np.testing.assert_array_equal(row["tiles"][: len(squares)], squares)
  np.testing.assert_array_equal(row["tile_layout"][: len(expected)], expected)
  assert row["tile_segment_ids"].sum() == len(squares)
  # Few shapes: powers of two, and 64 times one.
  assert len(row["tiles"]).bit_count() == 1 and (len(row["tile_layout"]) // 64).bit_count() == 1


def test_images_of_a_sample_follow_one_another():
  files = [file(*size) for size in SIZES]
  together = TILES.read(files)
  rows = [vectors(TILES.row(TILES.read([data]))) for data in files]
  alone = [place for row, places in zip(rows, together.places, strict=True) for place in row[:places]]
  assert vectors(TILES.row(together))[: sum(together.places)] == alone


def test_flat_squares_follow_one_another():
  flat = dataclasses.replace(TILES, layout=dataclasses.replace(LAYOUT, newline=False))
  row = flat.row(flat.read([pixels(9, 30)]))
  count = int(row["tile_segment_ids"].sum())
  np.testing.assert_array_equal(row["tile_layout"][: 4 * count], np.arange(4 * count))


def test_pixels_are_decoded_when_the_row_is_full(monkeypatch):
  decoded = []
  decode = pictures.decode_image
  monkeypatch.setattr(pictures, "decode_image", lambda data: decoded.append(data) or decode(data))
  read = TILES.read([file(*size) for size in SIZES])
  assert not decoded
  TILES.row(read)
  assert len(decoded) == len(SIZES), "each image once, whatever the number of its tiles"


def test_one_square_an_image():
  size = TileSize(layout=LAYOUT, square=Square.PADDED, colour=(0.5, 0.25, 0.0))
  read = size.read([pixels(9, 30)])
  assert read.places == (5,)
  np.testing.assert_array_equal(size.row(read)["tiles"][0], padded(pixels(9, 30), side=8, mean=(0.5, 0.25, 0.0)))
  cropped = dataclasses.replace(size, square=Square.CROPPED)
  assert cropped.row(read)["tiles"].shape == (1, 8, 8, 3)


def test_damaged_files_are_told_before_anything_is_decoded():
  for data in (b"no picture", file(16, 16)[:-30], file(16, 16)[:60] + b"x" + file(16, 16)[61:]):
    with pytest.raises(UserError, match="cannot read image"):
      TILES.read([data])
  with pytest.raises(UserError, match="1 x 9000"):
    TILES.read([np.zeros((1, 9000, 3), np.uint8)])


def test_settings_are_stored_and_refused():
  assert from_json(to_json(TILES)) == TILES
  with pytest.raises(UserError, match="cropped images beside 22 grids"):
    dataclasses.replace(TILES, square=Square.CROPPED)


@pytest.mark.parametrize("window", [0, 64])
def test_patches_of_several_images_have_numbers(window):
  size = dataclasses.replace(PATCHES, window=window)
  read = size.read([file(20, 30), pixels(16, 16)])
  row = size.row(read)
  assert read.places == tuple((row["patch_segment_ids"] == number).sum() // 4 for number in (1, 2))
  for number, (height, width) in enumerate([(20, 30), (16, 16)], 1):
    own = patchify(pixels(height, width), patch=4, merge=2, min_pixels=64, max_pixels=1024)
    is_own = row["patch_segment_ids"] == number
    np.testing.assert_array_equal(row["patches"][is_own], own.patches)
    np.testing.assert_array_equal(row["patch_positions"][is_own], own.positions)
  assert size.read([]).places == () and len(size.read([]).arrays["patches"]) == 0
