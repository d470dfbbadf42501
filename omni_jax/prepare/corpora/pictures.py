"""Pictures of public corpora: their own bytes, once they are known to decode within bounds."""

import io
import warnings
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import Limits
from omni_jax.prepare.images import readable

_FORMATS = {
  ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP",
}  # fmt: skip
ENDINGS = tuple(_FORMATS)


def read_picture(source: Path | bytes, *, name: str = "", limits: Limits) -> bytes:
  """Returns the bytes of a picture that was decoded once to see that it can be.

  Size and format are read from its head, before any pixel is decoded: a picture of 200 megapixels costs nothing.

  Args:
    source: a file, or its bytes.
    name: of the file, where only its bytes are here; empty if it has none.
    limits: what is accepted.

  Raises:
    UserError: no picture, cut short, too large, or of another format than its name says.
  """
  name = name or (source.name if isinstance(source, Path) else "")
  where = str(source) if isinstance(source, Path) else name or f"{len(source)} bytes of image"
  size = source.stat().st_size if isinstance(source, Path) else len(source)
  if size > limits.max_bytes:
    raise UserError(f"{size} bytes", where=where, rule=f"at most {limits.max_bytes} bytes", remedy="make it smaller")
  data = source.read_bytes() if isinstance(source, Path) else source
  _require_whole(data, where=where, suffix=Path(name).suffix.lower(), limits=limits)
  return data


def encode_png(pixels: object) -> bytes:
  """Returns pixels (uint8, [height, width, 3] or [height, width, 1]) as PNG bytes."""
  import numpy as np
  from PIL import Image

  array = np.asarray(pixels)
  buffer = io.BytesIO()
  Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array).save(buffer, "PNG")
  return buffer.getvalue()


def _require_whole(data: bytes, *, where: str, suffix: str, limits: Limits) -> None:
  from PIL import Image

  def check() -> None:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is below
      with Image.open(io.BytesIO(data), formats=sorted(set(_FORMATS.values()))) as image:
        if image.width * image.height > limits.max_pixels:
          raise UserError(
            f"{image.width} x {image.height} pixels",
            where=where,
            rule=f"a picture has at most {limits.max_pixels} pixels",
            remedy="make it smaller",
          )
        expected = _FORMATS.get(suffix)
        if expected and image.format != expected and not limits.any_name:
          raise UserError(
            f"the content is {image.format}",
            where=where,
            rule=f"a file that ends with {suffix} is {expected}",
            remedy="rename it, or allow any name",
          )
        image.load()

  readable(check, where)
