"""One stream for every part: stages one behind another, each with the context it needs, and nothing else kept.

    units -> [stage: units in windows] -> [stage: laid out in time] -> [stage: frames in windows] -> samples

A stage is a `WindowStream`, which holds a window of frames; `Each`, a function of what arrives; or `AtEnd`, for what
needs everything. What a stage makes final goes to the next at once. A long utterance that is pushed whole passes in
pieces, so that between the stages there is never more than a piece of it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.speech.waveform_check import check_recording
from omni_jax.speech.windows import Frames, join

_AT_ONCE = 128  # units or frames
_SAMPLES_AT_ONCE = 1 << 20


class Stage(Protocol):
  """Values in, values out, some of them later; None is nothing."""

  def push(self, frames: Frames) -> Frames:
    """Returns what is final with these frames."""
    ...

  def finish(self) -> Frames:
    """Returns the rest."""
    ...


class Each:
  """What arrives, through a function that may remember what came before."""

  def __init__(self, function: Callable[[Any], Frames]):
    self._function = function

  def push(self, frames: Frames) -> Frames:
    """Returns what the function makes of these."""
    return self._function(frames)

  def finish(self) -> Frames:
    """Returns nothing."""
    return None


class Framed:
  """Samples to whole frames of `hop` samples; the last one is filled up with silence."""

  def __init__(self, hop: int):
    self._hop = hop
    self._rest = np.zeros(0, np.float32)

  def push(self, frames: np.ndarray) -> Frames:
    """Returns the frames [F, hop] that are full with these samples."""
    samples = np.concatenate([self._rest, frames])
    full = len(samples) // self._hop * self._hop
    self._rest = samples[full:]
    return samples[:full].reshape(-1, self._hop) if full else None

  def finish(self) -> Frames:
    """Returns the frame that was begun, nothing if none was."""
    rest, self._rest = self._rest, self._rest[:0]
    return np.pad(rest, (0, self._hop - len(rest)))[None] if len(rest) else None


class AtEnd:
  """Everything at once, through a function that needs all of it."""

  def __init__(self, function: Callable[[Any], Frames]):
    self._function = function
    self._parts: list[Frames] = []

  def push(self, frames: Frames) -> Frames:
    """Returns nothing."""
    self._parts.append(frames)

  def finish(self) -> Frames:
    """Returns what the function makes of all that arrived; nothing of nothing."""
    parts, self._parts = self._parts, []
    return self._function(join(parts)) if parts else None


class Stream:
  """Stages from units to samples or back; satisfies `interface.SpeechStream`."""

  def __init__(
    self,
    stages: Sequence[Stage],
    *,
    check: Callable[[np.ndarray], np.ndarray],
    empty: np.ndarray,
    at_once: int = _AT_ONCE,
  ):
    """Starts with nothing.

    Args:
      stages: in order.
      check: returns what is pushed as the first stage takes it, or raises a UserError.
      empty: what no output is.
      at_once: most values that pass through the stages together.
    """
    self._stages, self._check, self._empty, self._at_once = tuple(stages), check, empty, at_once
    self._finished = False

  def push(self, values: np.ndarray) -> np.ndarray:
    """Returns what is final now that these are known; may be empty.

    Raises:
      UserError: values that the part does not take, or the stream was finished.
    """
    if self._finished:
      raise UserError(
        "units or samples after the end",
        where="stream",
        rule="a finished stream is over",
        remedy="start a new stream",
      )
    values = self._check(values)
    starts = range(0, len(values), self._at_once)
    return self._joined([self._through(0, values[start : start + self._at_once]) for start in starts])

  def finish(self) -> np.ndarray:
    """Returns the rest, nothing the second time."""
    if self._finished:
      return self._empty
    self._finished = True
    return self._joined([self._through(number + 1, stage.finish()) for number, stage in enumerate(self._stages)])

  def _through(self, first: int, values: Frames) -> Frames:
    for stage in self._stages[first:]:
      if values is None:
        return None
      values = stage.push(values)
    return values

  def _joined(self, pieces: list[Frames]) -> np.ndarray:
    found = join(pieces)
    return self._empty if found is None else found


def whole_recording(encode: Callable[[np.ndarray], np.ndarray]) -> Stream:
  """Returns the stream of a tokenizer that hears a whole recording before its first unit: all come at the end."""
  check = functools.partial(check_recording, where="samples for a tokenizer", fewest=0)
  return Stream([AtEnd(encode)], check=check, empty=np.zeros(0, np.int32), at_once=_SAMPLES_AT_ONCE)
