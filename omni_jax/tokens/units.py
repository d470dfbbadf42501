"""Speech units as numbers: runs of equal units are said once (EMOVA's reduced form; a vocoder gives time back)."""

from collections.abc import Sequence

import numpy as np


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
