"""Being told to stop: a signal is remembered, and the loop saves and leaves between two steps."""

import signal
import threading
from types import FrameType


class StopSignal:
  """Context that catches SIGTERM and the first SIGINT; a second SIGINT interrupts at once.

  Handlers exist only in the main thread; elsewhere this does nothing.
  """

  def __init__(self):
    self.received: signal.Signals | None = None
    self._before: dict[signal.Signals, object] = {}

  def __enter__(self) -> "StopSignal":
    if threading.current_thread() is threading.main_thread():
      self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)  # pyright: ignore[reportArgumentType]  # what signal.signal itself returned

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
