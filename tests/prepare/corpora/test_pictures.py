import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import LIMITS
from omni_jax.prepare.corpora.picture_folder import PictureFolder
from omni_jax.prepare.corpora.pictures import encode_png, read_picture
from omni_jax.prepare.images import decode_image
from omni_jax.prepare.schema import validate
from tests.prepare.corpora.fixtures import picture_bytes, read_all, write


def chunk(kind: bytes, data: bytes):
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def empty_png(width, height, *extra: bytes):
  """A PNG of zeros: a few kilobytes, however many pixels."""
  head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
  rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
  return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_pictures_keep_their_bytes(kind):
  data = picture_bytes(kind)
  assert read_picture(data, limits=LIMITS) == data
  assert decode_image(data).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cut_short(kind):
  buffer = io.BytesIO()
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, kind)
  data = buffer.getvalue()
  for share in (0.9, 0.5, 0.1):
    with pytest.raises(UserError, match="cannot read image"):
      read_picture(data[: int(share * len(data))], limits=LIMITS)


def test_two_hundred_megapixels_are_never_decoded(monkeypatch):
  data = empty_png(20000, 10000)
  assert len(data) < 2**18
  monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("it was decoded"))
  for limit in (50_000_000, 10**9):  # the second is beyond what Pillow itself opens
    with pytest.raises(UserError, match=r"20000 x 10000 pixels|exceeds limit"):
      read_picture(data, limits=dataclasses.replace(LIMITS, max_pixels=limit))


def test_a_text_that_unpacks_to_gigabytes():
  bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70 * 2**20), 9))
  with pytest.raises(UserError, match="cannot read image"):
    read_picture(empty_png(8, 8, bomb), limits=LIMITS)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(300), b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture(data):
  with pytest.raises(UserError, match="cannot read image"):
    read_picture(data, name="a.png", limits=LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_damaged_anywhere_it_is_a_picture_or_told(kind):
  data, generator = picture_bytes(kind, (16, 16)), np.random.default_rng(1)
  for _ in range(60):
    damaged = bytearray(data)
    for place in generator.integers(0, len(data), 3):
      damaged[place] = generator.integers(256)
    try:
      assert read_picture(bytes(damaged), limits=LIMITS) == damaged
    except UserError as error:
      assert error.where


def test_a_name_that_says_another_format(tmp_path):
  (tmp_path / "a.png").write_bytes(picture_bytes("JPEG"))
  with pytest.raises(UserError, match="content is JPEG"):
    read_picture(tmp_path / "a.png", limits=LIMITS)
  assert read_picture(tmp_path / "a.png", limits=dataclasses.replace(LIMITS, any_name=True))


def test_a_large_file_is_not_opened(tmp_path):
  (tmp_path / "a.png").write_bytes(picture_bytes())
  with pytest.raises(UserError, match="at most 10 bytes"):
    read_picture(tmp_path / "a.png", limits=dataclasses.replace(LIMITS, max_bytes=10))


def test_pixels_become_png():
  pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
  np.testing.assert_array_equal(decode_image(encode_png(pixels)), pixels)
  assert decode_image(encode_png(pixels[..., :1])).shape == (3, 5, 3)


def test_the_bound_of_pillow_is_an_error_of_the_image_in_training_too(monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
  with pytest.raises(UserError, match="cannot read image"):
    decode_image(picture_bytes())


def test_a_folder_of_pictures_and_their_captions(tmp_path):
  write(tmp_path / "a" / "1.png", picture_bytes())
  write(tmp_path / "a" / "1.txt", " a red one\n")
  write(tmp_path / "a" / "2.jpg", picture_bytes("JPEG"))
  found = read_all(PictureFolder(root=tmp_path))
  assert [turn.text for turn in validate(found["a/1"]).turns] == ["", "a red one"]
  assert found["a/2"] == "no caption"
  bare = read_all(PictureFolder(root=tmp_path, captioned=False))["a/2"]
  assert bare.turns[1].text == "" and decode_image(bare.image).shape == (4, 6, 3)
  with pytest.raises(UserError, match="nothing to read"):
    list(PictureFolder(root=write(tmp_path / "none" / "x.txt", "x").parent).entries())
