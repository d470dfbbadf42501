"""Recordings of any length through a tokenizer that sees a whole recording: long ones in windows that overlap.

    recording   |---------------------------------------------------------------|
    window 1    [-----kept-----|ctx]
    window 2               [ctx|----kept----|ctx]
    window 3                                [ctx (more)|----------kept----------]   ends with the recording

Memory is that of one window. Each window is normalised on its own, as an utterance of the training would be.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from omni_jax.speech.grouping import map_waveforms


class Window(NamedTuple):
  """Samples [start, stop) that are read together, and which of their units are kept."""

  start: int
  stop: int
  kept: slice


class Spans(NamedTuple):
  """How long recordings are cut, in units.

  Attributes:
    unit: samples of a unit.
    whole: units of a window; a recording of up to as many is read whole.
    context: units of a window that are not kept, on each side where there is one; the last window has more.
  """

  unit: int
  whole: int
  context: int

  @classmethod
  def of_seconds(cls, *, hop: int, sample_rate: int, whole_seconds: float, context_seconds: float) -> "Spans":
    """Returns the spans of a tokenizer with units of `hop` samples; at least one unit each."""
    whole, context = (max(math.floor(seconds * sample_rate / hop), 1) for seconds in (whole_seconds, context_seconds))
    return cls(hop, whole, context)


def plan_windows(samples: int, *, unit: int, whole: int, context: int) -> list[Window]:
  """Returns windows whose kept units, one after another, are one for each `unit` samples begun (`Spans`)."""
  total = -(-samples // unit)
  if total <= whole:
    return [Window(0, samples, slice(0, total))]
  windows, done = [], 0
  while done < total:
    # The last one ends with the recording and is as long as the others, so that none is a short tail.
    first = min(max(done - context, 0), total - whole)
    last = first + whole
    end = total if last == total else last - context
    windows.append(Window(first * unit, min(last * unit, samples), slice(done - first, end - first)))
    done = end
  return windows


def map_units(
  function: Callable[[np.ndarray, np.ndarray], Any],
  waveforms: Sequence[np.ndarray],
  *,
  spans: Spans,
  sample_rate: int,
  together_seconds: float = math.inf,
) -> list[np.ndarray]:
  """Returns the rows of each waveform, one for each unit.

  Args:
    function: (waveform [B, A], samples [B]) -> (rows [B, U, ...], number of them [B]), as of `map_waveforms`.
    waveforms: float [A] each.
    spans: how long ones are cut.
    sample_rate: Hz.
    together_seconds: as of `map_waveforms`.
  """
  planned = [plan_windows(len(waveform), **spans._asdict()) for waveform in waveforms]
  pieces = [
    waveform[window.start : window.stop]
    for waveform, windows in zip(waveforms, planned, strict=True)
    for window in windows
  ]
  found = map_waveforms(function, pieces, sample_rate=sample_rate, together_seconds=together_seconds)
  rows = iter([values[:length] for values, length in found])
  return [np.concatenate([next(rows)[window.kept] for window in windows]) for windows in planned]
