import itertools
import math

import numpy as np
import pytest
from PIL import Image

from omni_jax.core.errors import UserError
from omni_jax.prepare import tiles
from omni_jax.prepare.tiles import GRIDS_OF_FOUR, GRIDS_OF_NINE, NEWLINE, choose_grid, cut_tiles, tile_layout

SIDE = 28


def picture(height, width):
  return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def some_sizes(count):
  return np.exp(np.random.default_rng(2).uniform(np.log(5), np.log(400), (count, 2))).astype(int).tolist()


def test_grids_are_those_of_the_release_in_its_order():
  collected = {(x, y) for x, y in itertools.product(range(1, 10), repeat=2) if 1 < x * y <= 9}
  assert set(GRIDS_OF_NINE) == collected and len(GRIDS_OF_NINE) == len(collected) == 22
  # Where the release got its order from: a CPython set filled by rows, the single square taken out afterwards.
  pairs = [(x, y) for x in range(1, 10) for y in range(1, 10) if x * y <= 9]
  assert [grid for grid in set(pairs) if grid != (1, 1)] == list(GRIDS_OF_NINE)


def released_choice(height, width, grids, side):
  """Returns the grid by the release's loop (`select_best_resolution`), from its description."""
  best, most, least = None, 0, math.inf
  for columns, rows in grids:
    scale = min(columns * side / width, rows * side / height)
    shown = min(int(width * scale) * int(height * scale), width * height)
    black = columns * side * rows * side - shown
    if shown > most or (shown == most and black < least):
      best, most, least = (columns, rows), shown, black
  return best


@pytest.mark.parametrize("grids", [GRIDS_OF_NINE, GRIDS_OF_FOUR])
def test_the_grid_is_that_of_the_release(grids):
  for height, width in [*some_sizes(500), [448, 448], [448, 896], [1, 9]]:
    assert choose_grid(height, width, grids=grids, side=SIDE) == released_choice(height, width, grids, SIDE)


def test_ties_go_to_the_first_grid():
  # As much kept and as much black in both: the order decides.
  assert choose_grid(10, 10, grids=((1, 3), (3, 1)), side=28) == (1, 3)
  assert choose_grid(10, 10, grids=((3, 1), (1, 3)), side=28) == (3, 1)


def released_tiles(image, grid, side):
  """Returns the tiles that Pillow gives by the release's recipe: resize, paste on black, crop."""
  whole = Image.fromarray(image)
  canvas = Image.new("RGB", (grid[0] * side, grid[1] * side))
  ratio = min(canvas.width / whole.width, canvas.height / whole.height)
  if canvas.width / whole.width < canvas.height / whole.height:
    size = canvas.width, min(math.ceil(whole.height * ratio), canvas.height)
  else:
    size = min(math.ceil(whole.width * ratio), canvas.width), canvas.height
  canvas.paste(whole.resize(size), ((canvas.width - size[0]) // 2, (canvas.height - size[1]) // 2))
  corners = itertools.product(range(0, canvas.height, side), range(0, canvas.width, side))
  squares = [canvas.crop((left, top, left + side, top + side)) for top, left in corners]
  return np.stack([np.asarray(square) for square in [whole.resize((side, side)), *squares]])


def test_tiles_are_those_of_the_release():
  for height, width in some_sizes(60):
    image = picture(height, width)
    pixels, grid = cut_tiles(image, grids=GRIDS_OF_NINE, side=SIDE)
    np.testing.assert_array_equal(pixels, released_tiles(image, grid, SIDE))


def test_square_modes_equal_transformers():
  clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil(
    size={"shortest_edge": SIDE}, crop_size=SIDE, do_rescale=False, do_normalize=False
  )
  siglip = pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip").SiglipImageProcessorPil(
    size={"height": SIDE, "width": SIDE}, do_rescale=False, do_normalize=False
  )
  for height, width in some_sizes(40):
    image = picture(height, width)
    theirs = [processor(image, return_tensors="np")["pixel_values"][0] for processor in (clip, siglip)]
    for ours, expected in zip((tiles.cropped, tiles.squeezed), theirs, strict=True):
      np.testing.assert_array_equal(ours(image, side=SIDE), expected.transpose(1, 2, 0))


def test_padding_puts_the_image_in_the_middle_of_its_mean_colour():
  square = tiles.padded(picture(4, 9), side=9, mean=(0.5, 0.25, 0.999))
  np.testing.assert_array_equal(square[2:6], picture(4, 9))
  assert (square[:2] == (127, 63, 254)).all() and (square[6:] == (127, 63, 254)).all()
  assert tiles.padded(picture(9, 4), side=20, mean=(0, 0, 0)).shape == (20, 20, 3)


def released_unpad(plane, height, width):
  """Returns what the release keeps of a plane (`unpad_image`), with lists instead of slices."""
  rows, columns = plane.shape
  if width / height > columns / rows:
    cut = (rows - int(height * (columns / width))) // 2
    return plane[[row for row in range(rows) if cut <= row < rows - cut]]
  cut = (columns - int(width * (rows / height))) // 2
  return plane[:, [column for column in range(columns) if cut <= column < columns - cut]]


def test_layout_is_the_whole_image_then_lines_without_black():
  # Two tiles side by side, two by two vectors each; an image twice as wide as high fills them.
  assert tile_layout(10, 20, grid=(2, 1), cells=2).tolist() == [0, 1, 2, 3, 4, 5, 8, 9, NEWLINE, 6, 7, 10, 11, NEWLINE]
  assert tile_layout(10, 20, grid=None, cells=2).tolist() == [0, 1, 2, 3, NEWLINE]
  for height, width in some_sizes(100):
    columns, rows = choose_grid(height, width, grids=GRIDS_OF_NINE, side=SIDE)
    # Numbers of the vectors written out place by place: tile, then row and column inside it.
    y, x = np.mgrid[: 4 * rows, : 4 * columns]
    plane = 16 * (1 + y // 4 * columns + x // 4) + 4 * (y % 4) + x % 4
    lines = [[*line, NEWLINE] for line in released_unpad(plane, height, width).tolist()]
    expected = [*range(16), *itertools.chain.from_iterable(lines)]
    assert tile_layout(height, width, grid=(columns, rows), cells=4).tolist() == expected


def test_an_image_too_thin_for_any_grid_is_refused():
  with pytest.raises(UserError, match="1 x 10000"):
    choose_grid(1, 10_000, grids=GRIDS_OF_NINE, side=SIDE)
