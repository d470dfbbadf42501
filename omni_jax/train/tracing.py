"""Traces of the profiler, asked for while a run goes on: which operation takes how long, and what the device waits for.

    touch STAGE/trace           the next 3 steps are traced by the first process
    echo 10 > STAGE/trace       the next 10

The trace lies beside the events, where TensorBoard's profile plugin (`pip install xprof`) looks for it.
"""

from collections.abc import Callable
from pathlib import Path

import jax

_STEPS = 3
_MOST_STEPS = 100  # a trace of more is too large to be opened


class Tracer:
  """Context that looks for the request, and ends a trace that is under way."""

  def __init__(self, stage_folder: Path, *, say: Callable[[str], None]):
    """Looks into a stage's folder.

    Args:
      stage_folder: of the run.
      say: takes a line for whoever watches.
    """
    self._request, self._folder, self._say = stage_folder / "trace", stage_folder / "events", say
    self._last: int | None = None  # step that a trace under way ends with

  def __enter__(self) -> "Tracer":
    return self

  def __exit__(self, *exception: object) -> None:
    self._end()

  @property
  def is_tracing(self) -> bool:
    """Whether a trace is under way."""
    return self._last is not None

  def look(self, done: int) -> None:
    """Begins a trace after step `done`, if one is asked for; not for every step, since folders may be far away."""
    if self.is_tracing or jax.process_index() != 0 or not self._request.is_file():
      return
    text = self._request.read_text(errors="replace").strip()
    self._request.unlink()
    steps = min(int(text), _MOST_STEPS) if text.isdecimal() and int(text) else _STEPS
    jax.profiler.start_trace(str(self._folder))
    self._last = done + steps

  def ends(self, done: int) -> bool:
    """Whether the trace under way ends with step `done`; the device should have finished it before `finish`."""
    return self._last is not None and done >= self._last

  def finish(self) -> None:
    """Writes the trace and says where it is."""
    self._end()
    self._say(f"traced: {self._folder / 'plugins/profile'} (tensorboard --logdir {self._folder}, pip install xprof)")

  def _end(self) -> None:
    if self.is_tracing:
      self._last = None
      jax.profiler.stop_trace()
