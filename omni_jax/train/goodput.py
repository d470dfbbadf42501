"""Where the time of a stage went, over all its lives: what was not a step, and steps that were done twice.

    start         restoring or drawing the state
    compile       calls of the step that met new shapes
    data          waiting for a batch, where the device had nothing left to do when it came
    checkpoint    the loop standing still for a save, and for the sounds that go with it
    lost          steps after the checkpoint that a later life went on from, as far as they were logged

`goodput` is the share that is left. Time between two lives is not known here.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

KINDS = ("start", "compile", "data", "checkpoint", "lost")


class Goodput:
  """Seconds by kind, going on from those of earlier lives."""

  def __init__(self, lines: Sequence[Mapping[str, float]], *, step: int):
    """Reads what earlier lives left.

    Args:
      lines: all that they logged.
      step: that this life goes on from.
    """
    kept = [line for line in lines if line["step"] <= step]
    before: Mapping[str, float] = kept[-1] if kept else {}
    last: Mapping[str, float] = lines[-1] if lines else {}
    self._seconds = {kind: before.get(f"{kind}_seconds", 0.0) for kind in KINDS}
    self._lost_steps = last.get("lost_steps", 0.0)
    if last.get("step", 0.0) > step:
      self._lost_steps += last["step"] - step
      # All that the earlier life did after the line that is kept, its start included if it began after it.
      names = ("seconds", "start_seconds", "lost_seconds")
      self._seconds["lost"] += sum(last.get(name, 0.0) - before.get(name, 0.0) for name in names)
    self._shapes: set[tuple[Any, ...]] = set()

  def add(self, kind: str, seconds: float) -> None:
    """Counts seconds as one of KINDS."""
    self._seconds[kind] += seconds

  @contextlib.contextmanager
  def spent(self, kind: str, *, counts: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Counts the time inside as one of KINDS, if at its end it counts."""
    begun = time.monotonic()
    yield
    if counts():
      self._seconds[kind] += time.monotonic() - begun

  def stepping(self, batch: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Counts the time inside as compilation, if no batch had these shapes before."""
    shapes = tuple((name, array.shape) for name, array in sorted(batch.items()))
    is_new = shapes not in self._shapes
    self._shapes.add(shapes)
    return self.spent("compile", counts=lambda: is_new)

  def figures(self, seconds: float) -> dict[str, float]:
    """Returns what is logged.

    Args:
      seconds: of the loop in all lives, without what was lost.
    """
    whole = seconds + self._seconds["start"] + self._seconds["lost"]
    share = 1.0 - sum(self._seconds.values()) / max(whole, 1e-9)
    own = {f"{kind}_seconds": spent for kind, spent in self._seconds.items()}
    return {"goodput": max(share, 0.0), **own, "lost_steps": float(self._lost_steps)}
