"""Pictures in: files to pixels, pixels to the rows of patches a native-resolution tower reads.

Follows Qwen2-VL's image processor (transformers `image_processing_qwen2_vl.smart_resize`) with EMOVA's first step, the
short side scaled up to one cell. Deviations: the still image is not repeated in time (the tower folds that into its
weights), pixels stay uint8 (the tower normalises them), and a ratio above 200 is refused at every size, where EMOVA
lets images below one cell pass.

    cell = merge x merge patches           rows of `patches`, merge 2:
      +----+----+----+----+                   0 1 | 4 5
      | 0  | 1  | 4  | 5  |                   2 3 | 6 7
      | 2  | 3  | 6  | 7  |                 four consecutive rows are one cell, cells run row by row
      +----+----+----+----+
"""

import dataclasses
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from omni_jax.core.errors import UserError

Result = TypeVar("Result")

LARGEST_RATIO = 200  # of the longer to the shorter side, as in Qwen2-VL


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchLayout:
  """How a tower of any resolution reads images: rows of patches, of which `merge` x `merge` become one vector.

  Attributes:
    patch: side of a patch in pixels.
    merge: side of a merge cell in patches.
  """

  patch: int
  merge: int


class Patches(NamedTuple):
  """`patches` uint8 [P, patch * patch * 3] (row, column, channel) and `positions` int32 [P, 2] (row, column)."""

  patches: np.ndarray
  positions: np.ndarray


def load_image(path: Path | str) -> np.ndarray:
  """Returns the pixels of an image file, uint8 [height, width, 3].

  Raises:
    UserError: missing or unreadable.
  """
  path = Path(path)
  if not path.is_file():
    raise UserError("no such file", where=path, rule="the image file exists", remedy="check the path")
  return _read(path.read_bytes(), str(path))


def decode_image(data: bytes) -> np.ndarray:
  """Returns the pixels of PNG, JPEG or other image bytes, uint8 [height, width, 3].

  Raises:
    UserError: the bytes are no image.
  """
  return _read(data, f"{len(data)} bytes of image")


def image_size(data: bytes) -> tuple[int, int]:
  """Returns height and width of image bytes, without decoding the pixels.

  Raises:
    UserError: the bytes are no image, or a PNG file that is damaged.
  """
  from PIL import Image

  def read() -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
      image.verify()
      return image.height, image.width

  return readable(read, f"{len(data)} bytes of image")


def target_size(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
  """Returns the height and width, multiples of `factor`, at which an image is read: about its own, within bounds.

  Raises:
    UserError: the sides differ more than 200 times.
  """
  if max(height, width) > LARGEST_RATIO * min(height, width):
    raise UserError(
      f"image of {height} x {width} pixels",
      where="image",
      rule=f"the longer side is at most {LARGEST_RATIO} times the shorter",
      remedy="crop the image",
    )
  height, width = _short_side_enlarged(height, width, factor)
  rounded = (round(height / factor) * factor, round(width / factor) * factor)
  if rounded[0] * rounded[1] > max_pixels:
    shrink = math.sqrt(height * width / max_pixels)
    return tuple(max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))  # pyright: ignore[reportReturnType]: two sides
  if rounded[0] * rounded[1] < min_pixels:
    grow = math.sqrt(min_pixels / (height * width))
    return tuple(math.ceil(side * grow / factor) * factor for side in (height, width))  # pyright: ignore[reportReturnType]: two sides
  return rounded


def patchify(image: np.ndarray, *, patch: int, merge: int, min_pixels: int, max_pixels: int) -> Patches:
  """Returns `image` (uint8 [height, width, 3]), resized to whole cells, as rows of patches in cell order."""
  from PIL import Image

  factor = patch * merge
  height, width = target_size(*image.shape[:2], factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)
  if (height, width) != image.shape[:2]:
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    image = np.asarray(resized)
  rows, columns = height // factor, width // factor
  cells = image.reshape(rows, merge, patch, columns, merge, patch, 3)
  patches = cells.transpose(0, 3, 1, 4, 2, 5, 6).reshape(-1, patch * patch * 3)
  row, column = np.meshgrid(np.arange(height // patch), np.arange(width // patch), indexing="ij")
  grid = np.stack([row, column], axis=-1).reshape(rows, merge, columns, merge, 2)
  positions = grid.transpose(0, 2, 1, 3, 4).reshape(-1, 2)
  return Patches(np.ascontiguousarray(patches), positions.astype(np.int32))


def _short_side_enlarged(height: int, width: int, factor: int) -> tuple[int, int]:
  # EMOVA's first step, in its order of operations: another order rounds to another size now and then.
  if min(height, width) >= factor:
    return height, width
  if height < width:
    return factor, round(width / height * factor)
  return round(height / width * factor), factor


def _read(data: bytes, where: str) -> np.ndarray:
  from PIL import Image

  return readable(lambda: np.array(Image.open(io.BytesIO(data)).convert("RGB")), where)


def readable(read: Callable[[], Result], where: str) -> Result:
  """Returns what `read` returns; what Pillow finds wrong with the bytes becomes a UserError.

  Args:
    read: opens or decodes an image.
    where: its name in messages.

  Raises:
    UserError: that of `read`, or the image is damaged.
  """
  try:
    return read()
  except UserError:
    raise
  except Exception as error:  # decoders raise whatever their parsing of damaged bytes meets
    raise UserError(
      f"cannot read image: {error}",
      where=where,
      rule="an image is PNG, JPEG, WebP, BMP or GIF, not cut short",
      remedy="save the picture again as PNG",
    ) from error
