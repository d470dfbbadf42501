"""Speech units as numbers: runs of equal units are said once (EMOVA's reduced form; a vocoder gives time back)."""

import re
from collections.abc import Sequence

import numpy as np

from omni_jax.core.errors import UserError

_UNIT = re.compile(r"<\|speech_(?P<spoken>\d{1,18})\|>|<(?P<marked>\d{1,18})>|(?<!\S)(?P<plain>\d{1,18})(?!\S)")
_MARKS = re.compile(r"<[se]osp>")  # where SpeechGPT's units begin and end


def reduce_units(units: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the units without repetitions, and how often each was repeated.

  >>> reduce_units([7, 7, 3, 7])
  (array([7, 3, 7], dtype=int32), array([2, 1, 1], dtype=int32))
  """
  raw = np.asarray(units, np.int32)
  if raw.size == 0:
    return raw, raw
  starts = np.flatnonzero(np.concatenate([[True], raw[1:] != raw[:-1]]))
  return raw[starts], np.diff(np.append(starts, raw.size)).astype(np.int32)


def expand_units(units: Sequence[int] | np.ndarray, run_lengths: Sequence[int] | np.ndarray) -> np.ndarray:
  """Returns the raw sequence; inverse of `reduce_units`."""
  return np.repeat(np.asarray(units, np.int32), run_lengths)


def parse_units(text: str) -> np.ndarray:
  """Returns the units, int32 [U], of a text: EMOVA's `<|speech_12|><|speech_7|>`, SpeechGPT's `<12><7>`, or `12 7`.

  Raises:
    UserError: anything else in it.
  """
  found: list[int] = []

  def take(match: re.Match[str]) -> str:
    found.append(int(next(number for number in match.groups() if number)))
    return ""

  rest = _UNIT.sub(take, _MARKS.sub("", text))
  if rest.strip():
    raise UserError(
      f"cannot read {rest.strip()[:40]!r}",
      where="units",
      rule="units are numbers with spaces between, <|speech_12|><|speech_7|> or <12><7>",
      remedy="leave everything else out",
    )
  if any(number > np.iinfo(np.int32).max for number in found):
    raise UserError(
      f"unit {max(found)}", where="units", rule="units are numbers of a codebook", remedy="check the digits"
    )
  return np.array(found, np.int32)


def check_units(units: np.ndarray, *, codebook_size: int) -> np.ndarray:
  """Returns `units` as int32 [U].

  Raises:
    UserError: not a row of whole numbers, or one outside the codebook.
  """
  units = np.asarray(units)
  if units.ndim != 1 or (units.size and not np.issubdtype(units.dtype, np.integer)):
    raise UserError(
      f"units of shape {units.shape} and type {units.dtype}",
      where="vocoder",
      rule="units are one row of whole numbers",
      remedy="pass the reduced units of one utterance",
    )
  outside = units[(units < 0) | (units >= codebook_size)]
  if outside.size:
    raise UserError(
      f"unit {int(outside[0])}",
      where="vocoder",
      rule=f"units lie within 0..{codebook_size - 1}",
      remedy="use units of the tokenizer that this vocoder was trained with",
    )
  return units.astype(np.int32)
