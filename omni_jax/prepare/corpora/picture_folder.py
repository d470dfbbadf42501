"""Any folder of pictures, at any depth; a caption in a text file of the same name, where there is one.

a/1.png   a/1.txt         a picture and its caption
a/2.jpg                   a picture that nobody described (`captioned=False`)
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, files_below, inside, require_text
from omni_jax.prepare.corpora.lines import MAX_BYTES, read_at
from omni_jax.prepare.corpora.pictures import ENDINGS, read_picture
from omni_jax.prepare.schema import Example, Turn

_WORDS = ".txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureFolder:
  """Every picture below `root` in the order of the paths; its id is its path without the ending.

  Attributes:
    root: the folder.
    captioned: whether a picture without a caption is put aside; otherwise it has an empty one, for a step to fill.
    limits: what is accepted.
  """

  root: Path
  captioned: bool = True
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields an entry for each picture."""
    return files_below(self.root, ENDINGS, holds="pictures")

  def read(self, entry: Entry) -> Example:
    """Returns the picture and its caption."""
    (name,) = entry.at
    path = inside(self.root, name)
    beside = path.with_suffix(_WORDS)
    if not beside.is_file() and self.captioned:
      raise UserError(
        "no caption",
        where=path,
        rule=f"a caption lies beside its picture, in {beside.name}",
        remedy="write it, or set captioned=False and let a step write captions",
      )
    text = require_text(read_at(beside, start=0, size=MAX_BYTES), where=beside) if beside.is_file() else ""
    turns = (Turn("user", ""), Turn("assistant", text))
    return Example(entry.id, "caption", turns, read_picture(path, limits=self.limits))
