"""The bar that is shown while something is built."""

from typing import Any


def bars() -> Any:
  """Returns rich's bars: what is built, how much of it is done, and how long the rest will take."""
  from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

  return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
