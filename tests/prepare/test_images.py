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


@pytest.mark.peer
def test_size_agrees_with_transformers():
  smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
  generator = np.random.default_rng(1)
  for height, width in generator.integers(28, 900, (200, 2)):
    ours = target_size(int(height), int(width), factor=28, min_pixels=3136, max_pixels=250000)
    assert ours == smart_resize(int(height), int(width), factor=28, min_pixels=3136, max_pixels=250000)


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
  with pytest.raises(UserError, match="201 pixels"):
    patchify(picture(1, 201), patch=4, merge=2, **BOUNDS)
