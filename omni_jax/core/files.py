"""How a small file is written: whole or not at all, and a full disk is one clear message."""

import contextlib
import os
from pathlib import Path

from omni_jax.core.errors import UserError


def write_whole(path: Path, content: str | bytes) -> None:
  """Puts `content` (text as UTF-8) at `path`, making its folder; what was there stays until it is complete.

  Raises:
    UserError: the folder cannot be written or the disk is full; the earlier file, if any, is untouched.
  """
  partial = path.with_name(path.name + ".partial")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, path)
  except OSError as error:
    with contextlib.suppress(OSError):  # the first error is the one to tell
      partial.unlink()
    raise UserError(
      f"cannot write: {error.strerror or error}",
      where=path,
      rule="the folder can be written and the disk has room",
      remedy="free some space or choose another folder, and run it again; the earlier file, if any, is untouched",
    ) from error
