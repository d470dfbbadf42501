"""How files that fit in memory are written: whole or not at all, and a full disk is one clear message."""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from omni_jax.core.errors import UserError


def write_whole(path: Path, content: str | bytes) -> None:
  """Puts `content` (text as UTF-8) at `path`, making its folder; what was there stays until it is complete.

  Raises:
    UserError: the folder cannot be written or the disk is full; the earlier file, if any, is untouched.
  """
  write_together({path: content})


def write_together(files: Mapping[Path, str | bytes]) -> None:
  """Puts files that belong together at their paths, once all of them are complete.

  Raises:
    UserError: a folder cannot be written or the disk is full; the earlier files, if any, are untouched.
  """
  partial = {path: path.with_name(path.name + ".partial") for path in files}
  path = next(iter(files), None)
  try:
    for path, content in files.items():
      path.parent.mkdir(parents=True, exist_ok=True)
      partial[path].write_bytes(content.encode() if isinstance(content, str) else content)
    for path in files:
      os.replace(partial[path], path)
  except OSError as error:
    for left in partial.values():
      with contextlib.suppress(OSError):  # the first error is the one to tell
        left.unlink()
    raise UserError(
      f"cannot write: {error.strerror or error}",
      where=path,
      rule="the folder can be written and the disk has room",
      remedy="free some space or choose another folder, and run it again; the earlier file, if any, is untouched",
    ) from error


def source_hash(folder: Path) -> int:
  """Returns 63 bits that stand for every Python file below a folder."""
  digest = hashlib.sha256()
  for path in sorted(folder.rglob("*.py")):
    digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
  return int.from_bytes(digest.digest()[:8], "big") >> 1
