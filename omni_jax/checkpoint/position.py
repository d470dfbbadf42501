"""Where the data stood when a checkpoint was written, as an orbax item: one JSON file for each process."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jax

from omni_jax.core.errors import UserError

_NAME = "process_{}-of-{}.json"


class Position:
  """JSON data of this process, as orbax saves it; `read_position` reads it."""

  def __init__(self, data: dict[str, Any]):
    """Keeps the data."""
    self._text = json.dumps(data)

  async def save(self, directory: Any) -> Any:
    """Writes the data in the background."""

    async def write() -> None:
      path = await directory.await_creation()
      await asyncio.to_thread((path / _own_name()).write_text, self._text)

    return write()

  async def load(self, directory: Any) -> Any:
    """Is asked of an item by orbax, which wraps what a reader raises: not used."""
    raise NotImplementedError(str(directory))


def read_position(folder: Path) -> dict[str, Any]:
  """Returns the data of this process in the folder of the item.

  As many processes as wrote a checkpoint read each its own file. Another number of processes can go on only where all
  files say the same: where the position counts what the whole run has read, not what one process has.

  Raises:
    UserError: they differ, so that only as many processes as wrote them can go on.
    ValueError: they cannot be read or are not all there.
    OSError: likewise.
  """
  found = sorted(path.name for path in folder.glob(_NAME.format("*", "*")))
  if _own_name() in found:
    return json.loads((folder / _own_name()).read_text())
  counts = {int(count) for each in found for count in re.findall(r"-of-(\d+)\.json$", each)}
  if not found or counts != {len(found)}:
    raise ValueError(f"positions of the data: {', '.join(found) or 'none'}, some are missing")
  data = [json.loads((folder / each).read_text()) for each in found]
  if any(each != data[0] for each in data):
    raise UserError(
      f"{len(data)} processes wrote positions of the data that differ",
      where=folder,
      rule="another number of processes goes on where the position counts what the whole run has read",
      remedy=f"start {len(data)} processes, or use data whose position does (batches.planned)",
    )
  return data[0]


def _own_name() -> str:
  return _NAME.format(jax.process_index(), jax.process_count())
