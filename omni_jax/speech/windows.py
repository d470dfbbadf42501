"""A network over frames, run in windows of one static shape: whole utterances, hours, and streams give the same.

A window holds a chunk of frames and their context on both sides. Places before the first and after the last frame are
marked invalid and the network treats them as its own padding, so that the true ends have no context:

    valid    0 0 0 1 1 1 1 1 1 1 1 1 1 1 1
    window  |-before-|== chunk ==|- after -|

Chunks lie at whole multiples of their length, however frames arrive. A frame is always computed at the same place of
the same window, which gives the same bits, and a part of a chunk can be had early at the price of its window.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from omni_jax.core.errors import UserError

Frames = Any  # an array, or a NamedTuple of arrays, [N, ...] each

# (frames [1, W, ...], valid float32 [1, W], number of the first frame int32 [1]) -> values [1, W * hop, ...]
FrameFunction = Callable[[Any, np.ndarray, np.ndarray], Any]


class WindowStream:
  """Frames go in as they come, values come out as soon as nothing later can change them."""

  def __init__(
    self,
    function: FrameFunction,
    *,
    hop: int,
    before: int,
    after: int,
    chunk: int,
    least: int | None = None,
    ahead: int | None = None,
  ):
    """Starts with no frames.

    Args:
      function: the network on one window; what it gives for invalid frames is not used.
      hop: values for each frame.
      before: frames before a frame that its values depend on.
      after: frames after it.
      chunk: frames that a window makes final.
      least: fewest frames of a chunk worth a window of their own before the end; `chunk` by default.
      ahead: values in front of a frame that depend on it, at most those of `after` frames, which is the default. Where
        it is less, chunks begin and end as many values earlier, and the first sound comes sooner.

    Raises:
      UserError: a chunk of no frames.
    """
    if chunk < 1:
      raise UserError(
        f"chunks of {chunk} frames", where="stream", rule="a chunk has at least one frame", remedy="ask for more"
      )
    self._function, self._hop, self._before, self._after, self._chunk = function, hop, before, after, chunk
    self._least = chunk if least is None else least
    self._frames: Frames = None  # those still needed
    self._ahead = after * hop if ahead is None else ahead
    self._early = after * hop - self._ahead  # values of a frame that are final before the others
    self._first = self._total = 0  # numbers of the first frame kept and of the next to come
    self._done = 0  # number of the next value to be final
    self.finished = False

  def push(self, frames: Frames) -> Frames:
    """Returns the values that are final now that these frames are known; None where there are none yet.

    Raises:
      UserError: the stream was finished.
    """
    self._take(frames)
    return join(list(self._advance(self._total * self._hop - self._ahead, least=self._least * self._hop)))

  def finish(self) -> Frames:
    """Returns the remaining values; None where there are none."""
    self.finished = True
    return join(list(self._advance(self._total * self._hop, least=1)))

  def pieces(self, frames: Frames) -> Iterator[Frames]:
    """Yields the values of the last frames, which these are, one window after another."""
    self._take(frames)
    self.finished = True
    return self._advance(self._total * self._hop, least=1)

  def _take(self, frames: Frames) -> None:
    if self.finished:
      raise UserError(
        "frames after the end", where="stream", rule="a finished stream is over", remedy="start a new stream"
      )
    self._frames = frames if self._frames is None else join([self._frames, frames])
    self._total += _length(frames)

  def _advance(self, final: int, *, least: int) -> Iterator[Frames]:
    while self._done < final:
      border = (self._chunk_of(self._done) + 1) * self._chunk * self._hop + self._early
      end = min(border, final)
      if end < border and end - self._done < least:
        return
      yield self._window(end)

  def _chunk_of(self, value: int) -> int:
    """Returns the number of the chunk that a value is in, -1 for those of a first one that is cut short."""
    return (value - self._early) // (self._chunk * self._hop)

  def _window(self, end: int) -> Frames:
    start = self._chunk_of(self._done) * self._chunk - self._before
    size = self._before + self._chunk + self._after
    missing = max(-start, 0)
    known = _rows(self._frames, start + missing - self._first, start + size - self._first)
    values = _run(self._function, known, start=start, missing=missing, size=size)
    values = _rows(values, self._done - start * self._hop, end - start * self._hop)
    self._done = end
    keep = max(self._chunk_of(end) * self._chunk - self._before, 0)
    self._frames, self._first = _rows(self._frames, keep - self._first, None), keep
    return values


def run_whole(function: FrameFunction, frames: Frames, *, hop: int, context: int, largest: int) -> Frames:
  """Returns the values of all `frames`: in one window rounded up to a power of two, or in several of `largest` frames.

  Shapes are few, so little is compiled, and memory does not grow with the utterance. `context` is on both sides.
  """
  number = _length(frames)
  if number > largest - 2 * context:
    chunk = max(largest - 2 * context, 1)
    stream = WindowStream(function, hop=hop, before=context, after=context, chunk=chunk)
    return join(list(stream.pieces(frames)))
  values = _run(function, frames, start=0, missing=0, size=1 << (number - 1).bit_length())
  return _rows(values, 0, number * hop)


def join(parts: list[Frames]) -> Frames:
  """Returns parts one behind the other, None if there is none; those that are None are left out."""
  given = [part for part in parts if part is not None]
  return jax.tree.map(lambda *arrays: np.concatenate(arrays), *given) if given else None


def _run(function: FrameFunction, known: Frames, *, start: int, missing: int, size: int) -> Frames:
  """Returns the values of a window from frame `start` on, `missing` of whose places come before what is known."""
  sides = (missing, size - missing - _length(known))
  window = jax.tree.map(lambda array: np.pad(array, (sides,) + ((0, 0),) * (array.ndim - 1))[None], known)
  valid = np.pad(np.ones(_length(known), np.float32), sides)
  values = function(window, valid[None], np.array([start], np.int32))
  return jax.tree.map(lambda array: np.asarray(array)[0], values)


def _rows(frames: Frames, start: int, stop: int | None) -> Frames:
  return jax.tree.map(lambda array: array[start:stop], frames)


def _length(frames: Frames) -> int:
  return len(jax.tree.leaves(frames)[0])
