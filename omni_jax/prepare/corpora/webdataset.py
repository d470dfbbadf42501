"""webdataset archives (github.com/webdataset/webdataset): tar files whose members of one name are one sample.

    000.tar: a1.jpg a1.txt  a2.jpg a2.txt       images and captions
    001.tar: b1.flac b1.txt b1.json             speech and words

Nothing is unpacked to disk: the listing notes where the members lie. Archives are not compressed, since one sample must
be found without reading all before it. `json` may hold `text`, `speaker` and `conversations`.
"""

import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora import pictures, sound
from omni_jax.prepare.corpora.conversations import READING, Reading
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, name_below, require_file, require_some
from omni_jax.prepare.corpora.fields import Fields, example_of_fields
from omni_jax.prepare.corpora.lines import parse_json
from omni_jax.prepare.schema import Example

_TEXTS = (".txt", ".text", ".transcript")
_FIELDS = ("text", "audio", "image", "conversations", "speaker")
_USED = (*pictures.ENDINGS, *sound.ENDINGS, *_TEXTS, ".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebDataset:
  """The samples of the archives, in the order of the files and of their members.

  Attributes:
    path: a tar file, or a folder of them.
    reading: what conversations become.
    limits: what is accepted.
  """

  path: Path
  reading: Reading = READING
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each sample."""
    for path in self._files():
      file = name_below(self.path, path)
      key, members, reason = "", [], ""
      for name, offset, size, wrong in _members(path):
        _, dot, ending = name.rpartition("/")[2].partition(".")
        own = name[: len(name) - len(dot + ending)]
        if own != key and members:
          yield Entry(f"{path.stem}/{key}", (file, members), reason)
        if own != key:
          key, members, reason = own, [], ""
        too_large = f"{name}: {size} bytes" if size > self.limits.max_bytes else ""
        reason = reason or wrong or too_large
        members.append((f".{ending.lower()}", offset, size))
      if members:
        yield Entry(f"{path.stem}/{key}", (file, members), reason)

  def read(self, entry: Entry) -> Example:
    """Returns the record of a sample."""
    name, members = entry.at
    row: dict[str, Any] = {}
    with (self.path / name).open("rb") as file:
      for ending, offset, size in members:
        if PurePosixPath(f"x{ending}").suffix in _USED:
          file.seek(offset)
          row |= _field(PurePosixPath(f"x{ending}").suffix, file.read(size), entry.id)
    names: dict[str, Any] = {name: name for name in _FIELDS if name in row}
    return example_of_fields(
      entry.id, row, fields=Fields(**names), corpus="webdataset", reading=self.reading, limits=self.limits
    )

  def _files(self) -> list[Path]:
    if not self.path.is_dir():
      return [require_file(self.path, holds="a tar archive")]
    return require_some(sorted(self.path.rglob("*.tar")), where=self.path, rule="archives end with .tar")


def _members(path: Path) -> Iterator[tuple[str, int, int, str]]:
  """Yields name, place and size of each file in an archive, and why it cannot be used."""
  end = 0
  try:
    with tarfile.open(path, "r:") as archive:
      for member in archive:
        if member.isdir():
          continue
        wrong = "" if member.isreg() and not member.issparse() else "a link or device in the archive"
        if ".." in PurePosixPath(member.name).parts or member.name.startswith("/"):
          wrong = f"{member.name!r} leads out of the archive"
        yield member.name, member.offset_data, member.size, wrong
        end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    _require_end(path, end)
  except (tarfile.TarError, OSError, UnicodeError) as error:
    raise UserError(
      f"cannot read: {error}",
      where=path,
      rule="a whole tar archive, not compressed",
      remedy="fetch it again; unpack .tar.gz with gunzip",
    ) from error


def _require_end(path: Path, end: int) -> None:
  """Raises a ReadError unless the zeros that end an archive follow its last member: else some of it is missing."""
  with path.open("rb") as file:
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
      raise tarfile.ReadError("it is cut short")


def _field(suffix: str, data: bytes, where: str) -> dict[str, Any]:
  if suffix in pictures.ENDINGS:
    return {"image": {"bytes": data, "path": f"x{suffix}"}}
  if suffix in sound.ENDINGS:
    return {"audio": {"bytes": data, "path": f"x{suffix}"}}
  try:
    text = data.decode()
  except UnicodeDecodeError as error:
    raise UserError(f"no UTF-8: {error}", where=where, rule="texts are UTF-8", remedy="leave it out") from error
  if suffix in _TEXTS:
    return {"text": text}
  told = parse_json(text, where=where)
  return {name: told[name] for name in ("text", "speaker", "conversations") if isinstance(told, dict) and name in told}
