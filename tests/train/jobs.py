"""Runs of the toy in several processes, importable by the processes that tests start."""

import dataclasses
import os
import random
import signal
import time
from pathlib import Path

import grain
import jax

from omni_jax.core import processes
from omni_jax.core.files import write_whole
from omni_jax.train.loop import train
from tests.train.toy import ToyData, make_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts(ToyData):
  """Each process makes its own rows; the position counts batches of all."""

  def open_part(self, part, parts):
    own = self.rows // parts

    def cut(batch):
      return {name: array[part * own : (part + 1) * own] for name, array in batch.items()}

    return self.open().map(cut)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signalled(Parts):
  """Sends one process a signal once, after some batches of its first life; every batch takes some seconds."""

  signal_name: str
  process: int
  after_batches: int
  mark: str  # a file that exists from the second life on
  seconds: float = 0.2

  def open(self):
    return super().open().map(self._count)

  def _count(self, batch):
    served = int(os.environ.get("JOBS_SERVED", "0")) + 1
    os.environ["JOBS_SERVED"] = str(served)
    if not Path(self.mark).exists():
      time.sleep(self.seconds)
      if served == self.after_batches and jax.process_index() == self.process:
        Path(self.mark).write_text("")
        os.kill(os.getpid(), getattr(signal, self.signal_name))
    return batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Killed(Parts):
  """In each of its first lives one process, drawn anew, kills itself after a drawn number of batches."""

  kills: int
  most_batches: int  # of a life that is killed; batches are made ahead of steps
  draw: int  # seed of what is drawn
  marks: str  # a folder with one file for each kill

  def open(self):
    # A process that opens its data when the other is killed already is in the same life, whose address it shares.
    lives = sum(mark.read_text() != _life() for mark in Path(self.marks).glob("*.mark"))
    draw = random.Random(self.draw + lives)
    process, batches = draw.randrange(jax.process_count()), draw.randint(3, self.most_batches)
    ends = lives < self.kills and process == jax.process_index()
    return super().open().map(_Fall(batches if ends else 0, Path(self.marks) / f"{lives}.mark"))


def _life() -> str:
  """Returns what all processes of a life share and those of no other: the launcher takes a free port for each."""
  return os.environ["JAX_COORDINATOR_ADDRESS"]


class _Fall:
  """Passes batches on; at the one with this number the process is killed."""

  def __init__(self, number: int, mark: Path):
    self._left, self._mark = number, mark

  def __call__(self, batch):
    time.sleep(0.1)  # so that some lives are killed while a step or a save is under way
    self._left -= 1
    if self._left == 0:
      write_whole(self._mark, _life())
      os.kill(os.getpid(), signal.SIGKILL)
    return batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Late(Parts):
  """The second process takes longer over its first batch than gloo waits for it (30 s)."""

  seconds: float = 40.0

  def open(self):
    time.sleep(self.seconds * jax.process_index())
    return super().open()


class _OwnPosition(grain.DatasetIterator):
  def __next__(self):
    return next(self._parent)

  def get_state(self):
    return {"parent": self._parent.get_state(), "process": jax.process_index()}

  def set_state(self, state):
    self._parent.set_state(state["parent"])


class _OwnPositions(grain.IterDataset):
  def __iter__(self):
    return _OwnPosition(iter(self._parents[0]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnPositions(ToyData):
  """The position of every process is another."""

  def open(self):
    return _OwnPositions(super().open())


def job(kind, *, data=None, **changes):
  """Returns the toy run over one of the data above."""
  return make_run(data=globals()[kind](rows=8, length=12, vocab_size=32, **(data or {})), **changes)


def main(folder, *, devices, kind, **changes):
  """Joins the job and trains in it."""
  processes.join()
  assert jax.local_device_count() == devices
  train(job(kind, **changes), Path(folder))
