"""What a checkpoint costs a training: stall of the step loop, time of saving, memory; a decoder's state with moments.

The loop is a step that reads and writes the whole state (donated, as in training) and nothing else, so that what a save
adds is seen. The stall is the time inside the call of `save`, and by how much the first step after it is longer than
usual: it may have to wait for what is still read of the state that it consumes. It is told in copies of the state, into
memory that is mapped already, each taken right before a save: on a busy machine both are late alike.
Memory is this process's, its peak above what it was before the first save, as a multiple of the state.

    python tools/measure_checkpoints.py [--million 180] [--saves 20] [--folder /tmp/checkpoints]

The folder is removed at the end; it holds three times the state.
"""

import argparse
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.checkpoint.store import Store
from omni_jax.core import sharding
from omni_jax.models.decoder import Decoder, DecoderConfig
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.state import TrainState, make_side

GIB = 2**30
SAVED_EVERY = 100  # steps, in the share of a loop that is told


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--million", type=float, default=180, help="parameters")
  parser.add_argument("--saves", type=int, default=20)
  parser.add_argument("--step-seconds", type=float, default=1.0, help="of the training that the share is told for")
  parser.add_argument("--folder", type=Path, default=Path("/tmp/omni_checkpoints"))
  arguments = parser.parse_args()
  state = make_state(arguments.million * 1e6)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  print(f"{sum(leaf.size for leaf in state.parameters.values()) / 1e6:.1f} M parameters, state {size / GIB:.2f} GiB")
  try:
    measure(state, folder=arguments.folder, saves=arguments.saves, seconds=arguments.step_seconds)
  finally:
    shutil.rmtree(arguments.folder, ignore_errors=True)


def make_state(parameters: float) -> TrainState:
  """Returns the state of a decoder of about so many parameters under AdamW."""
  width, rows = (1024, 32_000) if parameters > 60e6 else (256, 8000)
  layer = width * (2 * width + 2 * width // 4 + 3 * 4 * width)
  depth = max(1, round((parameters - rows * width) / layer))
  model = DecoderConfig(
    vocab_size=rows, extra_vocab_size=0, width=width, depth=depth, num_heads=width // 64, num_kv_heads=width // 256,
    head_dim=64, mlp_dim=4 * width, rope_theta=1e4, norm_eps=1e-6, qkv_bias=False, tied=True,
  )  # fmt: skip

  def make() -> Decoder:
    return model.make(key=jax.random.key(0))

  side = make_side(make, OptimizerConfig(learning_rate=1e-3), mesh=sharding.make_mesh(), steps=1000)
  return side.create({})


def copy_seconds(state: Any, target: list[np.ndarray]) -> tuple[float, float]:
  """Returns the seconds, and those of the processor, in which NumPy copies the state into `target`."""
  start, busy = time.perf_counter(), time.thread_time()
  for leaf, place in zip(jax.tree.leaves(state), target, strict=True):
    np.copyto(place, np.asarray(leaf))
  return time.perf_counter() - start, time.thread_time() - busy


class Figures(NamedTuple):
  """What one save cost, in seconds; `busy`: of the loop's thread on a processor."""

  copy: float
  copy_busy: float
  call: float
  busy: float
  first_step: float
  complete: float
  held: int  # bytes of memory after it


def measure(state: TrainState, *, folder: Path, saves: int, seconds: float) -> None:
  """Runs the loop with and without saves, and prints the figures."""
  step = jax.jit(lambda state: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state), donate_argnums=0)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  state = jax.block_until_ready(step(state))
  plain = []
  for _ in range(10):
    start = time.perf_counter()
    state = jax.block_until_ready(step(state))
    plain.append(time.perf_counter() - start)
  usual, before = statistics.median(plain), resident()
  print(f"a step that reads and writes the state: {usual:.2f} s; this process holds {before / GIB:.2f} GiB")
  target = [np.full(leaf.shape, 1, leaf.dtype) for leaf in jax.tree.leaves(state)]  # mapped at once
  own = resident() - before
  store, found, watch = Store(folder, keep=2), [], Watch()
  store.prepare(params=state.parameters, moments=state.moments)
  store.wait()
  for number in range(1, saves + 1):
    state, figures = save_once(step, state, store=store, number=number, target=target)
    found.append(figures._replace(held=figures.held - own))
    print(f"  save {number}: {figures.call:.2f} s in the call ({figures.call / figures.copy:.1f} copies), "
          f"complete after {figures.complete:.2f} s", flush=True)  # fmt: skip
  peak = watch.stop() - own
  store.close()
  tell(found, usual=usual, seconds=seconds)
  print(f"peak {peak / GIB:.2f} GiB = {(peak - before + size) / size:.2f} x the state (with the state itself)")


def save_once(step: Callable, state: TrainState, *, store: Store, number: int, target: list[np.ndarray]) -> Any:
  """Returns the state after one step more, and what the save before it cost."""
  copy = copy_seconds(state, target)
  start, busy = time.perf_counter(), time.thread_time()
  store.save(number, params=state.parameters, moments=state.moments, position={"step": number})
  call, busy = time.perf_counter() - start, time.thread_time() - busy
  begun = time.perf_counter()
  state = jax.block_until_ready(step(state))
  first = time.perf_counter() - begun
  store.wait()
  return state, Figures(*copy, call, busy, first, time.perf_counter() - start, resident())


def tell(found: list[Figures], *, usual: float, seconds: float) -> None:
  """Prints the medians."""
  middle = Figures(*(statistics.median(column) for column in zip(*found, strict=True)))
  print(f"one copy of the state in memory: {middle.copy:.2f} s, {middle.copy_busy:.2f} s of a processor")
  print(f"save() returns after {middle.call:.2f} s = {middle.call / middle.copy:.2f} copies, of a processor "
        f"{middle.busy:.2f} s = {middle.busy / middle.copy_busy:.2f} copies; the first call after "
        f"{found[0].call:.2f} s, the longest after {max(each.call for each in found):.2f} s")  # fmt: skip
  more = middle.first_step - usual
  print(f"the first step after it takes {more:.2f} s longer than usual")
  stall = middle.call + max(more, 0.0)
  print(f"stall: {stall:.2f} s = {stall / middle.copy:.2f} copies; files are complete after {middle.complete:.2f} s")
  share = stall / (SAVED_EVERY * seconds)
  print(f"of a loop of {seconds} s a step that saves every {SAVED_EVERY}: {share:.2%}")
  print(f"held after save 2: {found[1].held / GIB:.2f} GiB, after save {len(found)}: {found[-1].held / GIB:.2f} GiB")


class Watch:
  """Looks at the memory of this process from a thread."""

  def __init__(self):
    self._peak, self._ends = 0, threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()

  def stop(self) -> int:
    """Returns the largest number of bytes seen."""
    self._ends.set()
    self._thread.join()
    return self._peak

  def _look(self) -> None:
    while not self._ends.wait(0.02):
      self._peak = max(self._peak, resident())


def resident() -> int:
  """Returns the bytes of memory of this process."""
  status = Path("/proc/self/status").read_text()
  return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


if __name__ == "__main__":
  main()
