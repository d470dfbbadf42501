import io

import numpy as np
import pytest
from PIL import Image

from omni_jax.core.errors import UserError
from omni_jax.prepare.images import decode_image, load_image, patchify, target_size

BOUNDS = {"min_pixels": 1, "max_pixels": 10**7}


def picture(height, width):
  return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_patches_put_back_at_their_positions_give_the_image():
  image = picture(24, 40)
  patches, positions = patchify(image, patch=4, merge=2, **BOUNDS)
  rebuilt = np.zeros_like(image)
  for row, (top, left) in zip(patches, positions, strict=True):
    rebuilt[4 * top : 4 * top + 4, 4 * left : 4 * left + 4] = row.reshape(4, 4, 3)
  np.testing.assert_array_equal(rebuilt, image)


def test_four_consecutive_rows_are_one_cell_and_cells_run_by_rows():
  _, positions = patchify(picture(8, 16), patch=4, merge=2, **BOUNDS)
  assert positions.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]


@pytest.mark.parametrize(
  ("size", "bounds", "expected"),
  [
    ((448, 448), (3136, 3211264), (448, 448)),
    ((1344, 896), (3136, 3211264), (1344, 896)),
    ((10, 100), (3136, 3211264), (28, 280)),  # EMOVA's first step: the short side comes to one cell
    ((30, 30), (3136, 3211264), (56, 56)),  # grown to the least area
    ((4000, 4000), (3136, 3211264), (1792, 1792)),  # shrunk to the largest
    ((50, 70), (784, 3211264), (56, 56)),  # 2.5 cells round to even, as in Python
  ],
)
def test_target_size_of_qwen2_vl(size, bounds, expected):
  assert target_size(*size, factor=28, min_pixels=bounds[0], max_pixels=bounds[1]) == expected


def sizes_of_images(count):
  """Returns sides from 28 to 1200 pixels, all ratios up to 200, small and thin ones as likely as large ones."""
  sides = np.exp(np.random.default_rng(1).uniform(np.log(28), np.log(1200), (count - 2, 2))).astype(int)
  return [*sides.tolist(), [28, 5600], [2800, 28]]


def test_patches_equal_those_of_transformers_to_one_grey_level():
  module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
  bounds = {"min_pixels": 4 * 28 * 28, "max_pixels": 300 * 28 * 28}
  processor = module.Qwen2VLImageProcessorPil(**bounds)
  mean, deviation = (np.array(c)[:, None] for c in (processor.image_mean, processor.image_std))
  for height, width in sizes_of_images(200):
    image = picture(height, width)
    patches, positions = patchify(image, patch=14, merge=2, **bounds)
    theirs = processor(images=[image], return_tensors="np")
    assert theirs["image_grid_thw"].tolist() == [[1, *(positions.max(0) + 1)]]
    frames = theirs["pixel_values"].reshape(-1, 3, 2, 14 * 14)
    np.testing.assert_array_equal(frames[:, :, 0], frames[:, :, 1])
    greys = ((frames[:, :, 0] * deviation + mean) * 255).swapaxes(1, 2).reshape(len(patches), -1)
    assert np.abs(greys - patches).max() < 1


def emova_size(height, width, factor, min_pixels, max_pixels):
  """Returns what EMOVA's `smart_resize` gives (its image_processing_qwen2_vl.py), written from its description."""
  if height < factor or width < factor:
    wide = height < width
    ratio = width / height if wide else height / width
    height, width = (factor, round(ratio * factor)) if wide else (round(ratio * factor), factor)
  sides = np.array([height, width], dtype=float)
  cells = np.array([round(side / factor) for side in (height, width)])
  if cells.prod() * factor**2 > max_pixels:
    cells = np.floor(sides / (height * width / max_pixels) ** 0.5 / factor)
  elif cells.prod() * factor**2 < min_pixels:
    cells = np.ceil(sides * (min_pixels / (height * width)) ** 0.5 / factor)
  return tuple(int(count) * factor for count in cells)


def test_sizes_below_one_cell_equal_emova():
  bounds = {"factor": 28, "min_pixels": 3136, "max_pixels": 3_211_264}
  for short in range(1, 28):
    for long in range(short, min(200 * short, 900) + 1, 7):
      for size in ((short, long), (long, short)):
        assert target_size(*size, **bounds) == emova_size(*size, **bounds), size


@pytest.mark.parametrize("size", [(1, 201), (28, 5601), (6000, 29)])
def test_a_ratio_above_200_is_refused(size):
  with pytest.raises(UserError, match="at most 200 times"):
    target_size(*size, factor=28, min_pixels=3136, max_pixels=3_211_264)


def test_images_are_read_as_three_channels(tmp_path):
  Image.new("RGBA", (6, 4), (255, 0, 0, 255)).save(tmp_path / "a.png")
  assert load_image(tmp_path / "a.png").shape == (4, 6, 3)
  buffer = io.BytesIO()
  Image.new("L", (6, 4), 7).save(buffer, "PNG")
  assert (decode_image(buffer.getvalue()) == 7).all()


def test_bad_images_give_one_clear_message(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    load_image(tmp_path / "none.png")
  (tmp_path / "text.png").write_text("not a picture")
  with pytest.raises(UserError, match="cannot read image"):
    load_image(tmp_path / "text.png")
  buffer = io.BytesIO()
  Image.fromarray(picture(64, 64)).save(buffer, "PNG")
  with pytest.raises(UserError, match="cannot read image"):
    decode_image(buffer.getvalue()[:200])
  buffer = io.BytesIO()
  Image.fromarray(picture(6, 8)).save(buffer, "TIFF")
  floating = buffer.getvalue().replace(b"\x11\x01\x04\x00", b"\x11\x01\x0c\x00")  # where its pixels are, as a float
  with pytest.raises(UserError, match="cannot read image"):
    decode_image(floating)
  with pytest.raises(UserError, match="201 pixels"):
    patchify(picture(1, 201), patch=4, merge=2, **BOUNDS)
