"""The progress of a run on the screen: a bar on a terminal, now and then a line in a file."""

import time

_LINE_SECONDS = 10.0  # between lines where there is no terminal


class Progress:
  """Context that shows step, loss, rate and time left."""

  def __init__(self, name: str, *, steps: int, step: int, shown: bool = True):
    """Makes the bar of a run.

    Args:
      name: of the run.
      steps: of the whole run.
      step: that it goes on from.
      shown: false for all processes of a run but the first.
    """
    from rich import console, progress

    self._shown = shown
    self._name, self._steps, self._first, self._start = name, steps, step, time.monotonic()
    self._next_line = 0.0
    self._bar = progress.Progress(
      progress.TextColumn("{task.description}"),
      progress.BarColumn(),
      progress.MofNCompleteColumn(),
      progress.TextColumn("{task.fields[news]}"),
      progress.TimeElapsedColumn(),
      progress.TextColumn("left"),
      progress.TimeRemainingColumn(),
      console=console.Console(quiet=not shown),
    )
    self._live = shown and self._bar.console.is_terminal
    self._task = self._bar.add_task(name, total=steps, completed=step, news="compiling")

  def __enter__(self) -> "Progress":
    if self._live:
      self._bar.start()
    return self

  def __exit__(self, *exception: object) -> None:
    if self._live:
      self._bar.stop()

  def advance(self, step: int) -> None:
    """Shows that `step` steps are finished."""
    self._bar.update(self._task, completed=step)

  def report(self, step: int, news: str) -> None:
    """Shows the latest figures."""
    self._bar.update(self._task, completed=step, news=news)
    now = time.monotonic()
    if self._shown and not self._live and (now >= self._next_line or step == self._steps):
      self._next_line = now + _LINE_SECONDS
      left = (now - self._start) / max(step - self._first, 1) * (self._steps - step)
      print(f"{self._name} {step}/{self._steps} {news} left {left:.0f}s", flush=True)

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
