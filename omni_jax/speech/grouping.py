"""Many recordings of different lengths through one compiled function: groups of few static shapes.

Rows are zero-padded to the next of a few lengths, and groups to a fixed number of rows, so that a whole corpus costs a
handful of compilations.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

GROUP_ROWS = 16


def map_waveforms(
  function: Callable[[np.ndarray, np.ndarray], Any],
  waveforms: Sequence[np.ndarray],
  *,
  sample_rate: int,
  together_seconds: float = math.inf,
) -> list[tuple[np.ndarray, ...]]:
  """Returns, for each waveform, its row of each output array of `function`, in the order given.

  Args:
    function: (waveform float32 [B, A] zero-padded, samples int32 [B]) -> tuple of arrays with leading axis B.
    waveforms: float [A] each, of any length above zero.
    sample_rate: Hz; lengths are rounded up to 1, 1.5, 2, 3, 4, 6, 8, 12, ... seconds.
    together_seconds: longer recordings are run one at a time, for functions whose memory grows faster than the length.
  """
  order = sorted(range(len(waveforms)), key=lambda index: len(waveforms[index]))
  results: list[tuple[np.ndarray, ...]] = [()] * len(waveforms)
  start = 0
  while start < len(order):
    length = padded_length(len(waveforms[order[start]]), sample_rate=sample_rate)
    longest = min(length, together_seconds * sample_rate)
    alone = len(waveforms) == 1 or len(waveforms[order[start]]) > longest
    rows = 1 if alone else GROUP_ROWS
    group = [i for i in order[start : start + rows] if alone or len(waveforms[i]) <= longest]
    batch, samples = pad_rows([waveforms[index] for index in group], rows=rows, length=length)
    outputs = [np.asarray(output) for output in function(batch, samples)]
    for row, index in enumerate(group):
      results[index] = tuple(output[row] for output in outputs)
    start += len(group)
  return results


def padded_length(samples: int, *, sample_rate: int) -> int:
  """Returns the smallest length of the ladder 1, 1.5, 2, 3, 4, 6, ... seconds that holds `samples`."""
  power = sample_rate
  while power * 3 // 2 < samples:
    power *= 2
  return power if samples <= power else power * 3 // 2


def pad_rows(waveforms: Sequence[np.ndarray], *, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns float32 [rows, length] with one waveform a row, and int32 [rows] samples; missing rows are empty."""
  batch = np.zeros((rows, length), np.float32)
  samples = np.zeros(rows, np.int32)
  for row, waveform in enumerate(waveforms):
    batch[row, : len(waveform)] = waveform
    samples[row] = len(waveform)
  return batch, samples
