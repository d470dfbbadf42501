"""A network over frames, run in windows of one static shape: whole utterances, hours, and streams give the same.

A window holds the frames that become final and their context on both sides. Places before the first and after the
last frame are marked invalid and the network treats them as its own padding, so that the true ends have no context:

    valid    0 0 0 1 1 1 1 1 1 1 1 1 1 1 1
    window  |-context-|== final ==|-context-|
"""

from collections.abc import Callable

import numpy as np

from omni_jax.core.errors import UserError

# (frames [1, W, ...], valid float32 [1, W], number of the first frame int32 [1]) -> values [1, W * hop, ...]
FrameFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class WindowStream:
  """Frames go in as they come, values come out as soon as nothing later can change them."""

  def __init__(self, function: FrameFunction, *, hop: int, context: int, chunk: int, least: int | None = None):
    """Starts with no frames.

    Args:
      function: the network on one window; what it gives for invalid frames is not used.
      hop: values for each frame.
      context: frames on each side of a frame that its values depend on.
      chunk: most frames that become final in one window.
      least: fewest frames worth a window before the end; `chunk` by default.

    Raises:
      UserError: a chunk of no frames.
    """
    if chunk < 1:
      raise UserError(
        f"chunks of {chunk} frames", where="stream", rule="a chunk has at least one frame", remedy="ask for more"
      )
    self._function, self._hop, self._context, self._chunk = function, hop, context, chunk
    self._least = chunk if least is None else least
    self._frames: np.ndarray | None = None  # those still needed
    self._first = self._done = self._total = 0  # numbers of the first one kept, the next to be final, the next to come
    self.finished = False

  def push(self, frames: np.ndarray) -> np.ndarray | None:
    """Returns the values that are final now that these frames [N, ...] are known; None where there are none yet.

    Raises:
      UserError: the stream was finished.
    """
    if self.finished:
      raise UserError(
        "frames after the end", where="stream", rule="a finished stream is over", remedy="start a new stream"
      )
    self._frames = frames if self._frames is None else np.concatenate([self._frames, frames])
    self._total += len(frames)
    return self._advance(self._total - self._context, least=self._least)

  def finish(self) -> np.ndarray | None:
    """Returns the remaining values; None where there are none."""
    self.finished = True
    return self._advance(self._total, least=1)

  def _advance(self, final: int, *, least: int) -> np.ndarray | None:
    pieces = []
    while (ready := min(self._chunk, final - self._done)) >= least:
      pieces.append(self._window(ready))
    return np.concatenate(pieces) if pieces else None

  def _window(self, ready: int) -> np.ndarray:
    assert self._frames is not None, "frames are ready only after some were given"
    size = self._chunk + 2 * self._context
    start = self._done - self._context
    known = self._frames[max(start, 0) - self._first :][: size - max(-start, 0)]
    sides = (max(-start, 0), size - max(-start, 0) - len(known))
    window = np.pad(known, (sides,) + ((0, 0),) * (known.ndim - 1))
    valid = np.pad(np.ones(len(known), np.float32), sides)
    values = np.asarray(self._function(window[None], valid[None], np.array([start], np.int32)))[0]
    self._done += ready
    keep = max(self._done - self._context, 0)
    self._frames, self._first = self._frames[keep - self._first :], keep
    return values[self._context * self._hop : (self._context + ready) * self._hop]


def run_whole(function: FrameFunction, frames: np.ndarray, *, hop: int, context: int, largest: int) -> np.ndarray:
  """Returns the values of all `frames`: in one window rounded up to a power of two, or in several of `largest` frames.

  Shapes are few, so little is compiled, and memory does not grow with the utterance.
  """
  if len(frames) > largest - 2 * context:
    stream = WindowStream(function, hop=hop, context=context, chunk=max(largest - 2 * context, 1))
    return np.concatenate([piece for piece in (stream.push(frames), stream.finish()) if piece is not None])
  size = 1 << (len(frames) - 1).bit_length()
  sides = (0, size - len(frames))
  window = np.pad(frames, (sides,) + ((0, 0),) * (frames.ndim - 1))
  valid = np.pad(np.ones(len(frames), np.float32), sides)
  return np.asarray(function(window[None], valid[None], np.zeros(1, np.int32)))[0, : len(frames) * hop]
