"""The copy that is written is real, reuses its memory, and keeps how arrays are divided."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.checkpoint.host_copy import HostCopy
from tests.devices import ROOT, environment


def tree(value):
  return {"a": jnp.full((3, 5), value), "b": (jnp.full((7,), value, jnp.bfloat16), jnp.asarray(value, jnp.int32))}


def where(leaf):
  return leaf.addressable_shards[0].data.unsafe_buffer_pointer()


def test_a_step_that_consumes_the_state_leaves_the_copy_alone():
  step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
  copy, state = HostCopy(), tree(3)
  copied, is_whole = copy.take(state)
  state = jax.block_until_ready(step(state))
  assert is_whole
  for leaf in jax.tree.leaves(copied):
    np.testing.assert_array_equal(np.asarray(leaf, np.float32), np.full(leaf.shape, 3))
  assert copied["b"][0].dtype == jnp.bfloat16


def test_the_next_copy_lies_in_the_same_memory():
  copy = HostCopy()
  prepared = [place.ctypes.data for place in copy.places(tree(0))]
  places = [[where(leaf) for leaf in jax.tree.leaves(copy.take(tree(value))[0])] for value in (1, 2)]
  assert prepared == places[0] == places[1]
  assert all(place % 64 == 0 for place in places[0])  # otherwise JAX copies once more, into other memory
  grown, _ = copy.take({**tree(3), "a": jnp.full((4, 5), 3.0)})
  np.testing.assert_array_equal(grown["a"], np.full((4, 5), 3.0))


def test_what_is_no_array_of_a_cpu_is_left():
  numbers = np.ones(3)
  copied, is_whole = HostCopy().take({"a": numbers})
  assert copied["a"] is numbers and not is_whole


def test_parts_stay_on_their_devices_and_replicas_share_memory():
  code = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from omni_jax.checkpoint.host_copy import HostCopy
mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"))
array = jax.device_put(np.arange(8.0).reshape(4, 2), NamedSharding(mesh, PartitionSpec("fsdp")))
copied, _ = HostCopy().take(array)
assert copied.sharding == array.sharding
np.testing.assert_array_equal(copied, array)
places = {part.data.unsafe_buffer_pointer() for part in copied.addressable_shards}
assert len(places) == 2, places
"""
  command = [sys.executable, "-c", code]
  done = subprocess.run(command, env=environment(4), cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr[-2000:]
