"""A process that saves without end and is killed at random moments; run by tests in a process of its own.

JAX and orbax are imported once; each life is a fork that initialises JAX itself.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.checkpoint import store as stored
from omni_jax.core.files import write_whole

SHAPES = {"first": (64, 1024), "second": (3, 7), "third": (128, 512)}  # some files, and time to be killed in
SAVES = 2  # a life ends within the time of so many saves after its first


def live(folder: Path) -> None:
  """Checks what the life before left, then saves step after step, every number in a step being the step's."""
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where) for name, shape in SHAPES.items()}
  store, step, complete = stored.Store(folder, keep=2), 0, folder / "complete"
  if store.latest is not None:
    params, moments, position = store.restore(params=shapes, moments=shapes)
    step = position["step"]
    for leaf in [*params.values(), *moments.values()]:
      np.testing.assert_array_equal(leaf, np.full(leaf.shape, step))
  assert step >= (int(complete.read_text()) if complete.exists() else 0), "a finished save was lost"
  assert not (folder / "damaged").exists(), "a save that was cut off was taken for a checkpoint"
  alive = folder / f"alive-{os.getpid()}"
  while True:
    begun, step = time.monotonic(), step + 1
    params, moments = ({name: jnp.full(shape, float(step)) for name, shape in SHAPES.items()} for _ in range(2))
    store.save(step, params=params, moments=moments, position={"step": step})
    store.wait()
    write_whole(complete, str(step))
    if not alive.exists():
      write_whole(alive, str(time.monotonic() - begun))


def main(folder: Path, *, moments: int, seed: int) -> None:
  """Begins so many lives and kills each; a last one only looks."""
  draw = random.Random(seed)
  stored._orbax()  # takes seconds, so it is imported before the forks
  for number in range(moments + 1):
    child = os.fork()
    if child == 0:
      try:
        live(folder)
      except BaseException:
        traceback.print_exc()
        os._exit(1)
    while not (folder / f"alive-{child}").exists():
      assert os.waitpid(child, os.WNOHANG) == (0, 0), f"life {number} ended by itself"
      time.sleep(0.01)
    time.sleep(draw.uniform(0, SAVES * float((folder / f"alive-{child}").read_text())))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
  print(f"{moments} kills, step {(folder / 'complete').read_text()}")


if __name__ == "__main__":
  main(Path(sys.argv[1]), moments=int(sys.argv[2]), seed=int(sys.argv[3]))
