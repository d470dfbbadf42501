"""Lines and JSON values of large text files, and the bytes they stand at, so that a reader can go back to one."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import require_file

MAX_BYTES = 64 * 2**20  # of a line or a value
_PIECE = 2**20
_BYTE_ORDER_MARK = "\ufeff"


class Line(NamedTuple):
  """One line: its number from 1, where it starts and how many bytes it has, and its text or why it has none."""

  number: int
  start: int
  size: int
  text: str
  reason: str


def lines(path: Path) -> Iterator[Line]:
  """Yields the lines of a UTF-8 file that are not blank; one that is no UTF-8 or endless has a reason instead of text.

  Raises:
    UserError: no such file.
  """
  require_file(path, holds="lines of text")
  start = 0
  with path.open("rb") as file:
    for number in range(1, 2**62):
      raw = file.readline(MAX_BYTES)
      size = len(raw)
      while raw and not raw.endswith(b"\n") and len(raw) == MAX_BYTES:  # the rest of an endless line, unread
        raw = file.readline(MAX_BYTES)
        size += len(raw)
      if not size:
        return
      text, reason = ("", f"a line of {size} bytes") if size > MAX_BYTES else _decoded(raw)
      if reason or text.strip():
        yield Line(number, start, size, text.rstrip("\r\n").removeprefix(_BYTE_ORDER_MARK), reason)
      start += size


def pairs(path: Path) -> Iterator[tuple[str, str, Line]]:
  """Yields the first word of each line, the rest of it, and the line: the tables of Kaldi and of many corpora.

  Raises:
    UserError: no such file.
  """
  for line in lines(path):
    key, *rest = line.text.split(maxsplit=1) if line.text.strip() else [f"{path.name}:{line.number}"]
    yield key, rest[0].strip() if rest else "", line


def read_at(path: Path, *, start: int, size: int) -> str:
  """Returns the text of so many bytes of a file.

  Raises:
    UserError: no such file, or bytes that are no UTF-8.
  """
  with require_file(path, holds="the text of its listing").open("rb") as file:
    file.seek(start)
    text, reason = _decoded(file.read(size))
  if reason:
    raise UserError(reason, where=f"{path}, byte {start}", rule="text is UTF-8", remedy="convert the file to UTF-8")
  return text


def json_at(path: Path, *, start: int, size: int) -> Any:
  """Returns the JSON value in so many bytes of a file.

  Raises:
    UserError: no such file, bytes that are no UTF-8, or no JSON.
  """
  return parse_json(read_at(path, start=start, size=size), where=f"{path}, byte {start}")


def parse_json(text: str, *, where: object) -> Any:
  """Returns the value of a JSON text.

  Raises:
    UserError: it is none, or nested too deep.
  """
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f"no JSON: {error}", where=where, rule="a record is one JSON value", remedy="repair it") from error


def json_items(path: Path) -> Iterator[tuple[int, int, Any]]:
  """Yields start, size in bytes and value of each item of the one JSON list in a file, however large the file is.

  Bytes that are no UTF-8 stay in the values as lone surrogates.

  Raises:
    UserError: no such file, or it is no complete JSON list.
  """
  decode = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape").decode
  scan = json.JSONDecoder().raw_decode
  with require_file(path, holds="a JSON list").open("rb") as file:
    buffer, offset, ended, opened = "", 0, False, False
    while True:
      stripped = buffer.lstrip(" \t\r\n,\ufeff" if opened else " \t\r\n\ufeff")
      offset += _num_bytes(buffer[: len(buffer) - len(stripped)])
      buffer = stripped
      if not opened and buffer:
        if buffer[0] != "[":
          raise _no_list(path, offset, f"it begins {buffer[:20]!r}")
        opened, buffer, offset = True, buffer[1:], offset + 1
        continue
      if opened and buffer.startswith("]"):
        return
      try:
        value, end = scan(buffer) if buffer else (None, 0)
      except (ValueError, RecursionError) as error:
        if ended or len(buffer) > MAX_BYTES:
          raise _no_list(path, offset, str(error)) from error
        end = 0
      # A number or a word may go on in the next piece; an object, a list or a text has its own end.
      if end and (ended or end < len(buffer)):
        size = _num_bytes(buffer[:end])
        yield offset, size, value
        buffer, offset = buffer[end:], offset + size
        continue
      if ended:
        raise _no_list(path, offset, "it ends in the middle")
      piece = file.read(max(_PIECE, len(buffer)))  # doubling: a long item is scanned few times
      ended = not piece
      buffer += decode(piece, final=ended)


def _decoded(raw: bytes) -> tuple[str, str]:
  try:
    return raw.decode(), ""
  except UnicodeDecodeError as error:
    return "", f"no UTF-8: {error.reason} at byte {error.start} of the line"


def _num_bytes(text: str) -> int:
  return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def _no_list(path: Path, offset: int, what: str) -> UserError:
  return UserError(
    f"no complete JSON list: {what}",
    where=f"{path}, byte {offset}",
    rule="the file is one JSON list, or .jsonl with one value for each line",
    remedy="fetch or write the file again",
  )
