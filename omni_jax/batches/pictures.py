"""How images enter a batch: as patches of a tower of any resolution, or as tiles of a tower of one resolution.

`ImageSize` (`batches.sources`) is the one, `TileSize` the other; which of them fits a model says its config
(`models.emova.EmovaConfig.image_layout`). Both do the same six things, and nobody else knows the arrays:

    read       images of one sample -> Pictures: the places they take, and arrays that lie end to end in a row
    measure    the same images -> their places and pieces, from their sizes alone
    lengths    how long each of these arrays is in a row
    finished   the arrays of a packed row -> what the model reads
    filled     a batch of such rows -> which of its places for pieces hold one
    row        the Pictures of one prompt -> the same, in few sizes

Tiles are decoded late: a sample holds the image's own bytes, whose size tells its places, and pixels exist from the
packed row on.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.core.arrays import bucket
from omni_jax.core.errors import UserError
from omni_jax.prepare.images import decode_image, image_size
from omni_jax.prepare.tiles import Grid, TileLayout, choose_grid, cropped, cut_tiles, num_tiles, padded, squeezed

Image = bytes | np.ndarray  # an image file's bytes, or pixels uint8 [height, width, 3]

SEGMENTS = "_segment_ids"  # after the name of an array of a packed row: the number of the sample, 0 for padding


class Pictures(NamedTuple):
  """The images of one sample in their order: the places each takes, and arrays with all their pieces end to end."""

  places: tuple[int, ...]
  arrays: dict[str, np.ndarray]


class Square(enum.Enum):
  """How a whole image becomes one square."""

  SQUEEZED = enum.auto()  # its ratio is not kept
  CROPPED = enum.auto()  # its middle
  PADDED = enum.auto()  # in the middle of one colour


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileSize:
  """How images are cut for a tower of one resolution.

  Attributes:
    layout: the model's `image_layout`.
    grids: columns and rows of squares that an image may be cut into beside the whole of it, such as
      `prepare.tiles.GRIDS_OF_NINE`; none: the whole image only.
    square: how the whole image becomes a square; with grids it is squeezed.
    colour: around a padded image, on the scale 0..1 (LLaVA: the tower's `pixel_mean`).
  """

  layout: TileLayout
  grids: tuple[Grid, ...] = ()
  square: Square = Square.SQUEEZED
  colour: tuple[float, float, float] = (0.0, 0.0, 0.0)

  def __post_init__(self):
    if self.grids and self.square is not Square.SQUEEZED:
      raise UserError(
        f"{self.square.name.lower()} images beside {len(self.grids)} grids",
        where="TileSize",
        rule="where images are cut into several squares, the whole image is squeezed into the first",
        remedy="leave out square, or grids",
      )

  @property
  def image_layout(self) -> TileLayout:
    """What the model reads, equal to its own `image_layout`."""
    return self.layout

  @property
  def unit(self) -> int:
    """Pieces of a row are a multiple of this."""
    return 1

  def read(self, images: Sequence[Image]) -> Pictures:
    """Returns images of any number, not yet decoded.

    Raises:
      UserError: bytes that are no image, or an image too thin for every grid.
    """
    places, pieces, tiles = [], [], []
    for image in images:
      height, width = image_size(image) if isinstance(image, bytes) else image.shape[:2]
      grid = choose_grid(height, width, grids=self.grids, side=self.layout.side) if self.grids else None
      own = self.layout.places(height, width, grid=grid)
      places.append(len(own))
      pieces.append(self._moved(own, len(tiles)))
      tiles += [_LateTile(image, number) for number in range(num_tiles(grid))]
    late = np.empty(len(tiles), object)
    late[:] = tiles
    layout = np.concatenate([np.zeros(0, np.int32), *pieces])
    return Pictures(tuple(places), {"tiles": late, "tile_layout": layout})

  def measure(self, images: Sequence[Image]) -> tuple[tuple[int, ...], int]:
    """Returns the places that each image takes and the tiles of all, as `read` would."""
    pictures = self.read(images)  # nothing is decoded
    return pictures.places, len(pictures.arrays["tiles"])

  def lengths(self, pieces: int, *, tokens: int) -> dict[str, int]:
    """Returns the length of each array in a row of so many tiles and tokens."""
    return {"tiles": pieces, "tile_layout": tokens if pieces else 0}

  def finished(self, row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tiles of a packed row with their segment ids, and the layout counted through the whole row."""
    samples, owner = row["tiles" + SEGMENTS], row["tile_layout" + SEGMENTS]
    before = np.searchsorted(samples[samples > 0], owner)  # tiles of the samples before
    side = self.layout.side
    pixels = np.zeros((len(samples), side, side, 3), np.uint8)
    for place, square in enumerate(self._decoded(row["tiles"][samples > 0].tolist())):
      pixels[place] = square
    layout = np.where(owner > 0, self._moved(row["tile_layout"], before), 0).astype(np.int32)
    return {"tiles": pixels, "tile_layout": layout, "tile_segment_ids": samples}

  def filled(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns which places for tiles hold one, bool [B, N]."""
    return batch["tile_segment_ids"] > 0

  def row(self, pictures: Pictures) -> dict[str, np.ndarray]:
    """Returns what the model reads of one prompt; the number of tiles and of places is one of few."""
    sizes = {"tiles": 1, "tile_layout": 64}
    return self.finished(packed(pictures, {name: (size, 0) for name, size in sizes.items()}))

  def _moved(self, layout: np.ndarray, tiles: int | np.ndarray) -> np.ndarray:
    """Returns a layout with so many tiles before its own."""
    return np.where(layout >= 0, layout + tiles * self.layout.cells**2, layout)

  def _decoded(self, tiles: Sequence["_LateTile"]) -> Iterator[np.ndarray]:
    squares = None
    for tile in tiles:  # those of an image come one after another, the first of them has the number 0
      if tile.number == 0 or squares is None:
        squares = self._squares(decode_image(tile.image) if isinstance(tile.image, bytes) else tile.image)
      yield squares[tile.number]

  def _squares(self, pixels: np.ndarray) -> np.ndarray:
    side = self.layout.side
    if self.grids:
      return cut_tiles(pixels, grids=self.grids, side=side).pixels
    if self.square is Square.PADDED:
      return padded(pixels, side=side, mean=self.colour)[None]
    return (cropped if self.square is Square.CROPPED else squeezed)(pixels, side=side)[None]


@dataclasses.dataclass(frozen=True, eq=False)
class _LateTile:
  """One square of an image that is decoded when the row is full."""

  image: Image
  number: int


def packed(pictures: Pictures, sizes: Mapping[str, tuple[int, object]]) -> dict[str, np.ndarray]:
  """Returns the arrays as a packed row with this one sample, filled up to one of few lengths.

  Args:
    pictures: the images.
    sizes: by the name of an array its smallest length and what fills it up.
  """
  row = {}
  for name, array in pictures.arrays.items():
    smallest, filling = sizes[name]
    length = bucket(len(array), smallest=smallest)
    row[name] = np.full((length, *array.shape[1:]), filling, array.dtype)
    row[name][: len(array)] = array
    row[name + SEGMENTS] = (np.arange(length) < len(array)).astype(np.int32)
  return row
