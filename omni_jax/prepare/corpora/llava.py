"""LLaVA annotations, JSON or JSONL, as EMOVA's trainer reads them (emova/train/data: `conversations`, `re_encode`).

    [{"id": "1", "image": "coco/1.jpg", "conversations": [{"from": "human", "value": "<image>\nwhat is this"},
                                                          {"from": "gpt", "value": "a dog"}]}, ...]

Files of gigabytes are listed by the places of their items and read again one by one. A folder means every annotation
file in it; an image is looked for in each folder of images.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.conversations import READING, Reading, example_of
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, name_below, require_file, require_some
from omni_jax.prepare.corpora.lines import json_at, json_items, lines, parse_json
from omni_jax.prepare.corpora.pictures import read_picture
from omni_jax.prepare.schema import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llava:
  """The items of annotation files, in their order.

  Attributes:
    annotations: files that end with .json or .jsonl, or a folder of them.
    images: the folder, or folders, that images lie in; by default that of the annotations.
    reading: what conversations become.
    limits: what is accepted.
  """

  annotations: Path
  images: tuple[Path, ...] = ()
  reading: Reading = READING
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each item."""
    for path in self._files():
      name = name_below(self.annotations, path)
      if path.suffix == ".jsonl":
        found = ((line.start, line.size, _id_in(line.text), line.reason) for line in lines(path))
      else:
        found = ((start, size, _id_of(item), "") for start, size, item in json_items(path))
      for place, (start, size, own, reason) in enumerate(found):
        yield Entry(own or f"{path.stem}/{place}", (name, start, size), reason)

  def read(self, entry: Entry) -> Example:
    """Returns the conversation, with its image."""
    name, start, size = entry.at
    item = json_at(self.annotations / name, start=start, size=size)
    if not isinstance(item, dict):
      raise UserError("an item that is no object", where=entry.id, rule="an item has conversations", remedy="repair it")
    image = self._image(item.get("image"), entry.id)
    return example_of(entry.id, item.get("conversations"), image=image, reading=self.reading)

  def _image(self, name: Any, where: str) -> bytes:
    if name is None or name in ("", []):
      return b""
    if isinstance(name, list) and len(name) == 1:
      name = name[0]
    if not isinstance(name, str):
      raise UserError(f"image {name!r:.80}", where=where, rule="a record has one image", remedy="split the record")
    roots = [Path(root) for root in self.images] or [
      self.annotations if self.annotations.is_dir() else self.annotations.parent
    ]
    found = [root for root in roots if (root / name).is_file()]
    return read_picture(inside(found[0] if found else roots[0], name), limits=self.limits)

  def _files(self) -> list[Path]:
    if not self.annotations.is_dir():
      return [require_file(self.annotations, holds="LLaVA annotations")]
    found = sorted(path for path in self.annotations.iterdir() if path.suffix in (".json", ".jsonl"))
    return require_some(found, where=self.annotations, rule="annotations end with .json or .jsonl")


def _id_in(text: str) -> str:
  try:
    return _id_of(parse_json(text, where=""))
  except UserError:
    return ""  # reading it tells what is wrong


def _id_of(item: Any) -> str:
  own = item.get("id") if isinstance(item, dict) else None
  return str(own) if isinstance(own, (str, int)) else ""
