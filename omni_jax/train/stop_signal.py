"""Being told to stop: a signal is remembered, and the loop saves and leaves between two steps.

All processes of a run must leave after the same step, whichever of them was told. JAX's preemption service agrees on
it: the process that was told tells the others, and all go on to the step after the furthest of them. Asking costs 15 us
a step and no collective, so it is asked at every step.
"""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Context that catches SIGTERM and the first SIGINT; a second SIGINT interrupts at once.

  Handlers exist only in the main thread; elsewhere this does nothing. In a run of several processes SIGTERM is caught
  by JAX, from the moment they joined each other; a SIGINT is passed on to it.
  """

  def __init__(self):
    self.received: signal.Signals | None = None
    self._before: dict[signal.Signals, object] = {}
    self._shared = jax.process_count() > 1

  def __enter__(self) -> "StopSignal":
    numbers = (signal.SIGINT,) if self._shared else (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is threading.main_thread():
      self._before = {number: signal.signal(number, self._remember) for number in numbers}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)  # pyright: ignore[reportArgumentType]  # what signal.signal itself returned

  def ends(self, step: int) -> bool:
    """Whether `step` is the last before leaving, the same in every process; to be asked once after each step."""
    return multihost_utils.reached_preemption_sync_point(step) if self._shared else self.received is not None

  def leave(self) -> None:
    """Ends the process as the signal asks: status 143 for SIGTERM, KeyboardInterrupt for SIGINT."""
    if self.received is signal.SIGINT:
      raise KeyboardInterrupt
    # Not 0: a script that runs stage after stage must not take a stopped stage for a finished one.
    raise SystemExit(128 + signal.SIGTERM)

  def _remember(self, number: int, frame: FrameType | None) -> None:
    if self.received is signal.SIGINT:
      raise KeyboardInterrupt
    self.received = signal.Signals(number)
    if self._shared:
      os.kill(os.getpid(), signal.SIGTERM)
