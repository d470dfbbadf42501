"""Pictures of text to be read (OCR), as a step of `build/driver.py`: any text corpus becomes images and what they say.

Font size, colours and request are drawn by the record's id, so that a picture is the same wherever it is made.
"""

import dataclasses
import functools
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.build.driver import Work
from omni_jax.build.each import apart_each
from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.pictures import encode_png
from omni_jax.prepare.corpora.words import HAN
from omni_jax.prepare.schema import Example, Turn

ENGLISH_REQUESTS = ("what does the picture say?", "read the text in the image.", "transcribe the text you see.")
MANDARIN_REQUESTS = ("图片上写了什么？", "请读出图中的文字。", "请把图里的文字写下来。")
_MARGIN = 12  # pixels
_PAPERS = ((255, 255, 255), (250, 245, 230), (235, 242, 250), (40, 44, 52))
_INKS = ((20, 20, 20), (60, 30, 10), (10, 30, 80), (240, 240, 235))
_LINE_SPACING = 1.35
_WORDS = re.compile(rf"[{HAN}]\s*|[^\s{HAN}]+\s*")
_NO_SIGN = "\U0010fffd"  # a font draws for it what it draws for every sign it lacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendered:
  """The step from text to a picture of it.

  Attributes:
    width: of the picture in pixels.
    most_height: of it; a longer text is put aside.
    sizes: of the font in pixels; a record has one of them.
    font: file of a TrueType or OpenType font; "" is that of Pillow, which has Latin letters only.
    requests: to read; a record has one of them.
  """

  width: int = 448
  most_height: int = 1024
  sizes: tuple[int, ...] = (16, 20, 28)
  font: str = ""
  requests: tuple[str, ...] = ENGLISH_REQUESTS

  def __post_init__(self):
    if self.width < 4 * _MARGIN or not self.requests or min(self.sizes, default=0) < 4:
      raise UserError(
        f"width {self.width}, sizes {self.sizes}, {len(self.requests)} requests",
        where="Rendered",
        rule=f"a width of {4 * _MARGIN} pixels, signs of 4, and a request at least",
        remedy="correct the config",
      )

  def open(self) -> Work:
    """Returns the step.

    Raises:
      UserError: no such font.
    """
    for size in self.sizes:
      _font(self.font, size)
    return apart_each(self._rendered)

  def _rendered(self, example: Example) -> Example:
    """Returns the record of a picture that shows the last turn's text."""
    number, text = zlib.crc32(example.id.encode()), " ".join(example.turns[-1].text.split())
    pixels = self.draw(text, number=number)
    asked = Turn("user", self.requests[number // 61 % len(self.requests)])
    return Example(example.id, "visual_question", (asked, Turn("assistant", text)), encode_png(pixels))

  def draw(self, text: str, *, number: int) -> np.ndarray:
    """Returns a picture of `text`, uint8 [height, width, 3]; `number` decides its size and colours.

    Raises:
      UserError: nothing to draw, a sign that the font lacks, or more than the picture holds.
    """
    from PIL import Image, ImageDraw

    size, color = self.sizes[number % len(self.sizes)], number // 7 % len(_PAPERS)
    font = _font(self.font, size)
    lines = _wrapped(text, font, width=self.width - 2 * _MARGIN)
    step = round(size * _LINE_SPACING)
    height = len(lines) * step + 2 * _MARGIN
    if not lines or height > self.most_height:
      raise _undrawn(f"{len(text)} signs in {len(lines)} lines", f"a text of 1 to {self.most_height} pixels in height")
    image = Image.new("RGB", (self.width, height), _PAPERS[color])
    draw = ImageDraw.Draw(image)
    for place, line in enumerate(lines):
      draw.text((_MARGIN, _MARGIN + place * step), line, font=font, fill=_INKS[color])
    return np.asarray(image)


def _wrapped(text: str, font: Any, *, width: int) -> list[str]:
  """Returns the lines of a text; they break between words and between Chinese characters."""
  for sign in sorted(set(text)):
    if not sign.isspace() and not _has(font, sign):
      raise _undrawn(f"the sign {sign!r}", "the font has every sign; Pillow's own has Latin letters")
  lines: list[str] = []
  for word in _WORDS.findall(text):  # each with the space behind it
    if font.getlength(word.strip()) > width:
      raise _undrawn(f"the word {word.strip()!r:.40}", "a word is no wider than the picture")
    if lines and font.getlength((lines[-1] + word).rstrip()) <= width:
      lines[-1] += word
    else:
      lines.append(word)
  return [line.strip() for line in lines]


@functools.cache
def _font(name: str, size: int) -> Any:
  from PIL import ImageFont

  try:
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
  except OSError as error:
    raise UserError(
      f"cannot open the font: {error}",
      where=Path(name),
      rule="a TrueType or OpenType font",
      remedy="name the file of a font that has the signs of the texts; on Debian and Ubuntu `apt-get install "
      "fonts-noto-cjk` brings NotoSansCJK-Regular.ttc, `fonts-wqy-microhei` the smaller wqy-microhei.ttc",
    ) from error


@functools.lru_cache(maxsize=50_000)
def _has(font: Any, sign: str) -> bool:
  missing, own = font.getmask(_NO_SIGN), font.getmask(sign)
  return (own.size, bytes(own)) != (missing.size, bytes(missing))


def _undrawn(what: str, rule: str) -> UserError:
  return UserError(what, where="picture of a text", rule=rule, remedy="leave it out, or choose another font or size")
