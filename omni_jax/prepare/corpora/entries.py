"""What every reader of a public corpus is: a cheap listing of entries, and a function from one of them to a record.

    corpus.entries() -> Entry, Entry, ...       streams; opens no sound and no picture
    corpus.read(entry) -> Example               the work; a UserError puts this entry aside, with its reason

A corpus is a frozen dataclass, so that it goes to other processes and machines and says what a set was made from.
"""

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import Example


class Entry(NamedTuple):
  """One record to be: its id, unique in the corpus, where `read` finds it (plain JSON values), or why it cannot be."""

  id: str
  at: tuple[Any, ...]
  reason: str = ""


class Corpus(Protocol):
  """A public corpus on disk."""

  def entries(self) -> Iterator[Entry]:
    """Yields the entries in a fixed order.

    Raises:
      UserError: the corpus is not there, or a file that lists the others is damaged.
    """
    ...

  def read(self, entry: Entry) -> Example:
    """Returns the record of an entry.

    Raises:
      UserError: it cannot be used.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """What a reader accepts, so that memory stays bounded whatever a corpus holds.

  Attributes:
    min_seconds, max_seconds: of a recording.
    max_pixels: of a picture; it is known before anything is decoded.
    max_bytes: of what is read whole: an image file, a member of an archive, a cell of a table.
    any_name: also read files whose content is of another format than their name says.
  """

  min_seconds: float = 0.1
  max_seconds: float = 60.0
  max_pixels: int = 50_000_000
  max_bytes: int = 64 * 2**20
  any_name: bool = False


LIMITS = Limits()


def require_folder(root: Path, *, holds: str) -> Path:
  """Returns `root` if it is a folder.

  Args:
    root: the folder.
    holds: what it should hold, for the message.

  Raises:
    UserError: it is none.
  """
  if not root.is_dir():
    raise UserError("no such folder", where=root, rule=f"the folder holds {holds}", remedy="check the path")
  return root


def require_file(path: Path, *, holds: str) -> Path:
  """Returns `path` if it is a file.

  Args:
    path: the file.
    holds: what it should hold, for the message.

  Raises:
    UserError: it is none.
  """
  if not path.is_file():
    raise UserError("no such file", where=path, rule=f"the file holds {holds}", remedy="check the path")
  return path


def require_some(paths: list[Path], *, where: Path, rule: str) -> list[Path]:
  """Returns `paths` if there are any.

  Args:
    paths: what was found.
    where: the folder that was searched.
    rule: what should have been found.

  Raises:
    UserError: nothing was found.
  """
  if not paths:
    raise UserError("nothing to read", where=where, rule=rule, remedy="check the path and the kind of the source")
  return paths


def files_below(folder: Path, endings: Collection[str], *, holds: str) -> Iterator[Entry]:
  """Yields an entry for each file of some kinds at any depth, in the order of their paths.

  Its id is its path without the ending, and `at` is its path alone, for `inside`.

  Args:
    folder: that is searched.
    endings: of the files, in lower case with the dot.
    holds: what the folder should hold, for the message.

  Raises:
    UserError: it is no folder, or holds no such file.
  """
  root = require_folder(folder, holds=holds)
  found = sorted(path for path in root.rglob("*") if path.suffix.lower() in endings)
  for path in require_some(found, where=root, rule=f"{holds} end with {', '.join(endings)}"):
    name = path.relative_to(root)
    yield Entry(str(name.with_suffix("")), (str(name),))


def inside(root: Path, name: str) -> Path:
  """Returns the path of a file that a corpus names, which must lie in `root`; links are followed.

  Raises:
    UserError: it lies elsewhere (`..`, another absolute path, a link out), or there is no such file.
  """
  if "\0" in name:
    raise UserError("a path with a zero byte", where=root, rule="a path is text", remedy="repair the list of files")
  home = root.resolve()
  path = (home / name).resolve()
  if not path.is_relative_to(home):
    raise UserError(
      f"{name!r} leads out of the corpus",
      where=root,
      rule="every file a corpus names lies in its folder",
      remedy="move the file there, or name a folder that holds both",
    )
  return require_file(path, holds="what the corpus names")


def name_below(root: Path, path: Path) -> str:
  """Returns how an entry names a file of a corpus whose `root` is a folder, or the file itself: nothing then."""
  return "" if path == root else str(path.relative_to(root))


def require_text(text: object, *, where: object) -> str:
  """Returns `text` without space at its ends.

  Raises:
    UserError: it is no text, or empty, or holds what is no character.
  """
  if not isinstance(text, str) or not text.strip():
    raise UserError(f"no text: {text!r:.80}", where=where, rule="a record has words", remedy="repair the record")
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise UserError(
      f"text with half a character: {error}", where=where, rule="text is Unicode", remedy="repair the record"
    ) from error
  return text.strip()
