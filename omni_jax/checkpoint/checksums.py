"""Checksums of the files of a checkpoint: written once the checkpoint is complete, compared before it is read.

Orbax renames a finished checkpoint into place, so a save that was cut off is never taken for one; but what it wrote has
no checksum of its own (only tensorstore's index has), and a disk, a copy or a person can damage it later. Files are
compared, not arrays, so any number of processes and any mesh can check; each takes its share of them.

    position/checksums_<process>-of-<processes>.json     {path inside the checkpoint: [bytes, crc32]}
"""

import concurrent.futures
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from omni_jax.core.files import write_whole

_PREFIX = "checksums_"
_BLOCK = 1 << 20  # bytes read at once
_THREADS = 4  # reading and summing both leave Python's lock


def write_checksums(checkpoint: Path, *, folder: str, part: int, parts: int) -> None:
  """Writes the checksums of one part of a checkpoint's files into one of its folders.

  Raises:
    UserError: the folder cannot be written.
    OSError: a file cannot be read.
  """
  files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and not path.name.startswith(_PREFIX)]
  own = files[part::parts]
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    sums = dict(zip((str(path.relative_to(checkpoint)) for path in own), pool.map(_sum, own), strict=True))
  write_whole(checkpoint / folder / f"{_PREFIX}{part}-of-{parts}.json", json.dumps(sums))


def find_damage(
  checkpoint: Path, *, folder: str, items: Sequence[str] = (), part: int = 0, parts: int = 1
) -> str | None:
  """Returns what is wrong with one part of a checkpoint's files, None if nothing is; without checksums nothing is.

  Args:
    checkpoint: its folder.
    folder: in which the checksums lie.
    items: folders that are looked at; all by default.
    part: of the files.
    parts: into which they are divided.
  """
  written: dict[str, list[int]] = {}
  for path in sorted((checkpoint / folder).glob(f"{_PREFIX}*.json")):
    try:
      written |= {str(name): [int(number) for number in pair] for name, pair in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
      return f"{path.relative_to(checkpoint)} cannot be read ({error})"
  names = [name for name in sorted(written) if not items or name.split("/")[0] in items][part::parts]
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    found = pool.map(lambda name: _compare(checkpoint / name, written[name]), names)
    return next((f"{name} {wrong}" for name, wrong in zip(names, found, strict=True) if wrong), None)


def _compare(path: Path, written: list[int]) -> str | None:
  try:
    found = _sum(path)
  except FileNotFoundError:
    return "is missing"
  except OSError as error:
    return f"cannot be read ({error.strerror or error})"
  if found[0] != written[0]:
    return f"has {found[0]} bytes, {written[0]} were written"
  return None if found == written else "has other bytes than were written"


def _sum(path: Path) -> list[int]:
  """Returns size and CRC-32 of a file."""
  size = total = 0
  with path.open("rb") as file:
    while block := file.read(_BLOCK):
      size, total = size + len(block), zlib.crc32(block, total)
  return [size, total]
