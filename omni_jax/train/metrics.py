"""What a run says while it runs: averages over steps, one JSON line per log, TensorBoard events, sounds."""

import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.audio import encode_flac
from omni_jax.train.goodput import Goodput

# macOS reports the peak in bytes, Linux in KiB (getrusage(2)).
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class Window:
  """The steps since the last log; their sums stay on the device until somebody asks."""

  def __init__(self):
    self._waiting: list[tuple[int, Any]] = []
    self._sums: dict[str, np.ndarray] = {}
    self._start, self._counted, self._least = time.monotonic(), 0, 0.0
    self._skipped, self._bad_run = 0, 0  # in this window; successive ones, also across windows

  def add(self, step: int, sums: dict[str, Any], *, counted: int, least_seconds: float = 0.0) -> None:
    """Takes the sums of one step.

    Args:
      step: its number.
      sums: name -> (sum, count).
      counted: tokens or examples in its batch.
      least_seconds: that it takes at the peak of the devices; 0 where that is not known.
    """
    self._waiting.append((step, sums))
    self._counted += counted
    self._least += least_seconds

  @property
  def is_idle(self) -> bool:
    """Whether every step given to the device is finished."""
    return not self._waiting or all(leaf.is_ready() for leaf in jax.tree.leaves(self._waiting[-1][1]))

  def wait(self, ahead: int) -> None:
    """Returns when at most the `ahead` newest steps are still running, so that the host does not run away."""
    if len(self._waiting) > ahead:
      jax.block_until_ready(self._waiting[-1 - ahead])

  def check(self, *, remedy: str, bad_steps: int = 0) -> None:
    """Fetches what is waiting.

    Args:
      remedy: for the message.
      bad_steps: how many successive steps with a loss or gradient that is not finite the step skips; they are counted
        and leave no trace in the averages.

    Raises:
      UserError: the loss or the gradient of one step more is not finite.
    """
    waiting, self._waiting = self._waiting, []
    for step, sums in jax.device_get(waiting):
      watched = (name for name in sums if name == "loss" or name.endswith("gradient_norm"))
      wrong = next((name for name in watched if not math.isfinite(sums[name][0])), None)
      self._bad_run = self._bad_run + 1 if wrong else 0
      if wrong is not None and self._bad_run > bad_steps:
        raise UserError(
          f"{wrong} is {sums[wrong][0]} at step {step}" + (f", {self._bad_run} in turn" if bad_steps else ""),
          where="training",
          rule=f"at most {bad_steps} in turn are skipped" if bad_steps else "loss and gradient norm stay finite",
          remedy=remedy,
        )
      if wrong:
        self._skipped += 1
        continue
      for name, pair in sums.items():
        self._sums[name] = self._sums.get(name, np.zeros(2)) + np.asarray(pair, np.float64)

  def flush(self) -> tuple[dict[str, float], float]:
    """Returns the averages and the rate (counted per second) of what `check` fetched, and starts a new window.

    `mfu` among the averages is the share of the devices' peak that was used, where that is known.
    """
    averages = {name: float(total / count) for name, (total, count) in self._sums.items() if count > 0}
    averages |= {"skipped_steps": float(self._skipped)} if self._skipped else {}
    seconds = max(time.monotonic() - self._start, 1e-9)
    averages |= {"mfu": self._least / seconds} if self._least else {}
    rate = self._counted / seconds
    self._sums, self._start, self._counted, self._least, self._skipped = {}, time.monotonic(), 0, 0.0, 0
    return averages, rate


class ScalarLog(Protocol):
  """Takes what is logged to wherever it is shown."""

  def scalars(self, step: int, line: dict[str, float]) -> None:
    """Takes a line of the log, `step` among its values."""
    ...

  def sound(self, step: int, name: str, samples: np.ndarray, *, sample_rate: int) -> None:
    """Takes a sound, float32 [A]."""
    ...

  def close(self) -> None:
    """Writes or sends what is buffered."""
    ...


class TensorBoardLog:
  """Events of a stage, `events/`; those after the step a run resumes from are hidden."""

  def __init__(self, folder: Path, *, step: int):
    """Opens the file; `step` is the one that the run goes on from."""
    from tensorboardX import SummaryWriter

    self._events = SummaryWriter(str(folder / "events"), purge_step=step + 1 if step else None)

  def scalars(self, step: int, line: dict[str, float]) -> None:
    """Takes a line of the log, `step` among its values."""
    for name, value in line.items():
      if name != "step":
        self._events.add_scalar(name, value, step)

  def sound(self, step: int, name: str, samples: np.ndarray, *, sample_rate: int) -> None:
    """Takes a sound, float32 [A]."""
    self._events.add_audio(name, samples, step, sample_rate=sample_rate)

  def close(self) -> None:
    """Writes what is buffered."""
    self._events.close()


class MetricLog:
  """`metrics.jsonl` of a stage, cut back to the step a run resumes from, and what goes to other logs."""

  def __init__(self, folder: Path, *, step: int, writes: bool = True, others: Sequence[ScalarLog] = ()):
    """Opens the files.

    Args:
      folder: of the stage.
      step: that the run goes on from.
      writes: false for all processes of a run but the first.
      others: logs beside TensorBoard's, which are closed with this one.
    """
    self._path = folder / "metrics.jsonl"
    lines = read_metrics(folder)
    kept = [line for line in lines if line["step"] <= step]
    self.goodput = Goodput(lines, step=step)
    self._seconds_before, self._start = (kept[-1]["seconds"] if kept else 0.0), time.monotonic()
    self._file, self._others = None, []
    if writes:
      write_whole(self._path, "".join(json.dumps(line) + "\n" for line in kept))
      self._file = self._path.open("a")
      self._others = [TensorBoardLog(folder, step=step), *others]

  def write(self, step: int, averages: dict[str, float], rate: float, *, unit: str) -> dict[str, float]:
    """Appends one line and returns it; every other log takes it too."""
    seconds = self._seconds_before + time.monotonic() - self._start
    line = {"step": step, **averages, f"{unit}_per_second": rate, "seconds": seconds}
    line |= {f"{unit}_per_second_per_device": rate / jax.device_count()} if jax.device_count() > 1 else {}
    line |= {"peak_memory_gib": peak_memory_gib(), **self.goodput.figures(seconds)}
    if self._file is not None:
      self._file.write(json.dumps(line) + "\n")
      self._file.flush()
    for log in self._others:
      log.scalars(step, line)
    return line

  def sounds(self, step: int, waveforms: dict[str, Any], *, sample_rate: int) -> None:
    """Keeps sounds [A] by name: the newest as `sounds/<name>.flac` of the stage, each in every other log."""
    if self._file is None:
      return
    for name, waveform in waveforms.items():
      samples = np.clip(np.asarray(waveform, np.float32), -1.0, 1.0)
      path = self._path.parent / "sounds" / f"{name}.flac"
      write_whole(path, encode_flac(samples, sample_rate))
      for log in self._others:
        log.sound(step, name, samples, sample_rate=sample_rate)

  def close(self) -> None:
    """Writes what is buffered."""
    for file in (self._file, *self._others):
      if file is not None:
        file.close()


def read_metrics(stage_folder: Path) -> list[dict[str, Any]]:
  """Returns the lines of a stage's `metrics.jsonl`, none if there is no such file; a torn last line is left out.

  Raises:
    UserError: another line cannot be read.
  """
  path = stage_folder / "metrics.jsonl"
  if not path.exists():
    return []
  lines = path.read_text().split("\n")
  # A line counts once its newline is written: a process killed while writing leaves a piece after the last newline.
  return [_read_line(line, path=path, number=number) for number, line in enumerate(lines[:-1], 1)]


def _read_line(text: str, *, path: Path, number: int) -> dict[str, Any]:
  try:
    line = json.loads(text)
    if not isinstance(line, dict) or not {"step", "seconds"} <= set(line):
      raise ValueError("no step and seconds")
  except ValueError as error:
    raise UserError(
      f"cannot read line {number} ({error})",
      where=path,
      rule="each line is a JSON object with step and seconds, as written by training",
      remedy="delete the line, or the file: it is only read to be shown",
    ) from error
  return line


def count_batch(batch: dict[str, np.ndarray]) -> tuple[int, str]:
  """Returns how much a batch holds and the unit: tokens where it is packed into segments, otherwise examples."""
  if "segment_ids" in batch:
    return int(np.count_nonzero(batch["segment_ids"])), "tokens"
  return len(next(iter(batch.values()))), "examples"


def peak_memory_gib() -> float:
  """Returns the largest memory used so far: of the accelerator if it tells, otherwise of this process."""
  statistics = jax.local_devices()[0].memory_stats() or {}
  peak = statistics.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES
  return peak / 2**30
