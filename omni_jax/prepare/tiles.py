"""Pictures for a tower of one fixed size: squares, or an image cut into several squares at a higher resolution.

Follows EMOVA's `mm_utils.process_anyres_image`, `emova_arch.unpad_image` and their neighbours (LLaVA-NeXT's any
resolution, llava-vl.github.io/blog/2024-01-30-llava-next). All pixels are uint8; the tower normalises them. Resizing is
Pillow's bicubic.

    image, ratio 2:1          canvas of 2 x 2 squares          what the decoder reads, 2 x 2 vectors a square
      +----------+              +----+----+                      whole image      0 1 2 3
      | a  b     |      ->      |....|....|  black above         lines without    a a b b newline
      +----------+              |aa  |bb  |  and below           the black bars   a a b b newline
                                +----+----+
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError

Grid = tuple[int, int]  # columns, rows

# Every grid of two to nine squares (`max_num_slices=9`). The first of equally good ones wins, so the order counts: it
# is that of the Python set they were collected in (EMOVA `utils.find_possible_grids`).
GRIDS_OF_NINE: tuple[Grid, ...] = (
  *((3, 1), (5, 1), (2, 2), (1, 6), (1, 3), (1, 9), (7, 1), (4, 2), (3, 3), (9, 1), (2, 4)),
  *((1, 2), (2, 1), (1, 5), (6, 1), (1, 8), (3, 2), (4, 1), (8, 1), (1, 4), (2, 3), (1, 7)),
)
# Without a limit on the number of squares (EMOVA `train.py`).
GRIDS_OF_FOUR: tuple[Grid, ...] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (4, 1), (1, 4))

NEWLINE = -1  # in a layout: the learned vector that ends a line


class Tiles(NamedTuple):
  """`pixels` uint8 [N, side, side, 3], the whole image first, then the squares of `grid` by rows."""

  pixels: np.ndarray
  grid: Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileLayout:
  """How a tower of one resolution reads images: squares, of which each becomes as many vectors.

  Attributes:
    side: of a square in pixels.
    cells: vectors along a side of a square, after the projector.
    newline: whether lines of vectors end with a learned one, black left out (`mm_patch_merge_type` `spatial_unpad`);
      otherwise the squares follow one another (`flat`).
  """

  side: int
  cells: int
  newline: bool

  def places(self, height: int, width: int, *, grid: Grid | None) -> np.ndarray:
    """Returns which vector takes which place of an image of these pixels, int32 [places], as `tile_layout`."""
    if self.newline:
      return tile_layout(height, width, grid=grid, cells=self.cells)
    return np.arange(num_tiles(grid) * self.cells**2, dtype=np.int32)


def num_tiles(grid: Grid | None) -> int:
  """Returns how many squares an image becomes: the whole image and those of the grid, if there is one."""
  return 1 if grid is None else 1 + grid[0] * grid[1]


def choose_grid(height: int, width: int, *, grids: Sequence[Grid], side: int) -> Grid:
  """Returns the grid of squares that keeps most of the image's pixels; of equal ones the least black, then the first.

  Raises:
    UserError: an image so thin that it would vanish in every grid.
  """

  def merit(grid: Grid) -> tuple[int, int]:
    canvas_width, canvas_height = grid[0] * side, grid[1] * side
    scale = min(canvas_width / width, canvas_height / height)
    kept = min(int(width * scale) * int(height * scale), width * height)
    return kept, kept - canvas_width * canvas_height

  best = max(grids, key=merit)  # `max` returns the first of equal ones
  if not merit(best)[0]:
    raise UserError(
      f"image of {height} x {width} pixels",
      where="image",
      rule=f"an image keeps at least one line of pixels when it is fitted into squares of {side}",
      remedy="crop the image",
    )
  return best


def cut_tiles(image: np.ndarray, *, grids: Sequence[Grid], side: int) -> Tiles:
  """Returns the whole image (uint8 [height, width, 3]) as one square and, larger, as the squares of the best grid."""
  height, width = image.shape[:2]
  columns, rows = choose_grid(height, width, grids=grids, side=side)
  canvas = centred(image, height=rows * side, width=columns * side)
  squares = canvas.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
  return Tiles(np.concatenate([squeezed(image, side=side)[None], squares]), (columns, rows))


def centred(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
  """Returns the image as large as fits, its ratio kept, in the middle of a black canvas."""
  scales = width / image.shape[1], height / image.shape[0]
  if scales[0] < scales[1]:
    inner = min(math.ceil(image.shape[0] * scales[0]), height), width
  else:
    inner = height, min(math.ceil(image.shape[1] * scales[1]), width)
  canvas = np.zeros((height, width, 3), np.uint8)
  top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
  canvas[top : top + inner[0], left : left + inner[1]] = _resize(image, *inner)
  return canvas


def squeezed(image: np.ndarray, *, side: int) -> np.ndarray:
  """Returns the image as a square, its ratio not kept (SigLIP's processor, and every first tile)."""
  return _resize(image, side, side)


def cropped(image: np.ndarray, *, side: int) -> np.ndarray:
  """Returns the middle square of the image, the short side resized to `side` (CLIP's processor)."""
  height, width = image.shape[:2]
  short = min(height, width)
  # The long side is cut to a whole number, not rounded, as in transformers' `get_resize_output_image_size`.
  image = _resize(image, *(side if edge == short else int(side * edge / short) for edge in (height, width)))
  top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
  return image[top : top + side, left : left + side]


def padded(image: np.ndarray, *, side: int, mean: Sequence[float]) -> np.ndarray:
  """Returns the whole image in the middle of a square of the mean colour (0..1), resized to `side` (LLaVA's `pad`)."""
  height, width = image.shape[:2]
  edge = max(height, width)
  square = np.empty((edge, edge, 3), np.uint8)
  square[:] = [int(255 * colour) for colour in mean]
  top, left = (edge - height) // 2, (edge - width) // 2
  square[top : top + height, left : left + width] = image
  return _resize(square, side, side)


def unpadded(rows: int, columns: int, *, height: int, width: int) -> tuple[slice, slice]:
  """Returns the rows and columns of a plane of vectors that show an image of these pixels, not the black around it."""
  if width / height > columns / rows:
    cut = (rows - int(height * (columns / width))) // 2
    return slice(cut, rows - cut), slice(0, columns)
  cut = (columns - int(width * (rows / height))) // 2
  return slice(0, rows), slice(cut, columns - cut)


def tile_layout(height: int, width: int, *, grid: Grid | None, cells: int) -> np.ndarray:
  """Returns which vector comes where for one image (`spatial_unpad`), int32 [tokens].

  An entry is the number of a vector, tiles one after another, each `cells` by `cells` vectors by rows, or NEWLINE.
  First the whole image, then the lines of the plane that its tiles make, each with a newline.

  Args:
    height: of the image in pixels, before any resizing.
    width: likewise.
    grid: columns and rows of tiles; None: the whole image is the only tile.
    cells: vectors along a side of a tile, after the projector.
  """
  whole = np.arange(cells**2)
  if grid is None:
    return np.append(whole, NEWLINE).astype(np.int32)
  columns, rows = grid
  numbers = cells**2 * np.arange(1, 1 + rows * columns)[:, None] + whole
  plane = numbers.reshape(rows, columns, cells, cells).swapaxes(1, 2).reshape(rows * cells, columns * cells)
  lines = plane[unpadded(*plane.shape, height=height, width=width)]
  ended = np.concatenate([lines, np.full((len(lines), 1), NEWLINE)], axis=1)
  return np.concatenate([whole, ended.reshape(-1)]).astype(np.int32)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
  from PIL import Image

  if (height, width) == image.shape[:2]:
    return image
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
