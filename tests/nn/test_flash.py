import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.attention import Kernel, Memory, attend, causal_sight, choose_kernel, segment_sight
from omni_jax.nn.flash import cudnn_attention

LENGTH = 20


def random(index, *shape):
  return jax.random.normal(jax.random.key(index), shape)


def packed(num_heads=14, num_kv_heads=2, head_dim=12):
  """Returns queries, keys and values, seven heads to one, and segments: two samples and padding; one sample."""
  queries = random(0, 2, num_heads, LENGTH, head_dim)
  keys, values = random(1, 2, num_kv_heads, LENGTH, head_dim), random(2, 2, num_kv_heads, LENGTH, head_dim)
  segments = jnp.array([[1] * 7 + [2] * 9 + [0] * 4, [1] * 20])
  positions = jnp.array([[*range(7), *range(9), *range(4)], [*range(20)]])
  return (queries, keys, values), segments, positions


SIGHTS = {
  "causal": lambda segments, positions, kernel: causal_sight(segments, positions, kernel=kernel),
  "window": lambda segments, positions, kernel: causal_sight(segments, positions, kernel=kernel, window=5),
  "segment": lambda segments, positions, kernel: segment_sight(segments, kernel=kernel),
}


@pytest.mark.parametrize("make_sight", SIGHTS.values(), ids=SIGHTS)
def test_splash_equals_the_masked_form_with_its_gradients(make_sight):
  inputs, segments, positions = packed()
  real = (segments > 0)[:, None, :, None]

  def run(kernel):
    sight = make_sight(segments, positions, kernel)

    def mixed(*inputs):
      out = jnp.where(real, sight.attend(*inputs), 0.0)
      return (out**2).sum(), out

    return jax.jit(jax.value_and_grad(mixed, argnums=(0, 1, 2), has_aux=True))(*inputs)

  (_, splash), splash_gradients = run(Kernel.SPLASH)
  (_, plain), gradients = run(Kernel.XLA)
  np.testing.assert_allclose(splash, plain, atol=1e-5)
  for found, expected in zip(splash_gradients, gradients, strict=True):
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("make_sight", SIGHTS.values(), ids=SIGHTS)
def test_the_form_cudnn_gets_equals_the_masked_form(make_sight):
  """The call with mask and causal flag, run by XLA: cuDNN itself exists on a GPU only (below)."""
  inputs, segments, positions = packed()
  sight = make_sight(segments, positions, Kernel.CUDNN)
  expected = attend(inputs[0], Memory(*inputs[1:], sight.mask))
  found = cudnn_attention(*inputs, mask=sight.mask, causal=sight.causal, implementation="xla")
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's kernel needs a GPU")
def test_cudnn_equals_the_masked_form():
  inputs, segments, positions = packed(head_dim=64)
  inputs = tuple(x.astype(jnp.bfloat16) for x in inputs)
  real = (segments > 0)[:, None, :, None]
  found, expected = (
    jnp.where(real, causal_sight(segments, positions, kernel=kernel).attend(*inputs), 0.0)
    for kernel in (Kernel.CUDNN, Kernel.XLA)
  )
  np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), atol=2e-2)


def test_one_place_chooses_the_kernel():
  half = {"head_dim": 128, "length": 8192, "branched": False}
  assert choose_kernel(jnp.float32, **half) is Kernel.XLA
  assert choose_kernel(jnp.bfloat16, **half, platform="tpu") is Kernel.SPLASH
  assert choose_kernel(jnp.bfloat16, **half | {"branched": True}, platform="tpu") is Kernel.XLA
  assert choose_kernel(jnp.bfloat16, **half, platform="gpu") is Kernel.CUDNN
  assert choose_kernel(jnp.bfloat16, **half | {"branched": True}, platform="gpu") is Kernel.CUDNN
  for unfit in ({"head_dim": 12}, {"head_dim": 256}, {"length": 8191}):
    assert choose_kernel(jnp.bfloat16, **half | unfit, platform="gpu") is Kernel.XLA
  assert choose_kernel(jnp.float32, **half, platform="gpu") is Kernel.XLA


def test_splash_refuses_branches():
  _, segments, positions = packed()
  with pytest.raises(AssertionError, match="not branches"):
    causal_sight(segments, positions, kernel=Kernel.SPLASH, branch_ids=segments)


def test_splash_under_a_mesh_is_split_over_rows_and_heads():
  """Only the program is made: rows over fsdp, key-value heads (with their query heads) over tensor."""
  inputs, segments, positions = packed()
  names = ("replica", "fsdp", "tensor", "sequence", "expert")
  mesh = jax.sharding.AbstractMesh((1, 2, 2, 1, 1), names, axis_types=(jax.sharding.AxisType.Auto,) * 5)
  with jax.sharding.use_abstract_mesh(mesh):
    sight = causal_sight(segments, positions, kernel=Kernel.SPLASH)
    program = jax.make_jaxpr(sight.attend)(*inputs)
  (equation,) = (e for e in program.jaxpr.eqns if e.primitive.name == "shard_map")
  shapes = [tuple(value.aval.shape) for value in equation.params["jaxpr"].invars]  # constants may be among them
  for shape in ((1, 7, 128, 12), (1, 1, 128, 12), (1, 1, 128, 12), (1, 128)):
    shapes.remove(shape)
  assert program.out_avals[0].shape == inputs[0].shape


PIECES = """
import jax, jax.numpy as jnp, numpy as np
from omni_jax.core import sharding
from omni_jax.nn.attention import Kernel, causal_sight
keys = jax.random.split(jax.random.key(0), 3)
queries, key, values = (jax.random.normal(k, (2, heads, 300, 16)) for k, heads in zip(keys, (4, 2, 2)))
segments = jnp.array([[1] * 130 + [2] * 150 + [0] * 20, [1] * 300])
positions = jnp.array([[*range(130), *range(150), *range(20)], [*range(300)]])
real = (segments > 0)[:, None, :, None]

def run(kernel, window):
  sight = causal_sight(segments, positions, kernel=kernel, window=window)
  loss = lambda *inputs: (jnp.where(real, sight.attend(*inputs), 0.0) ** 2).sum()
  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(queries, key, values)

for window in (None, 40):
  expected = run(Kernel.XLA, window)
  with jax.set_mesh(sharding.make_mesh("tensor=2,sequence=2")):
    found = run(Kernel.SPLASH, window)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
"""


@pytest.mark.slow
def test_splash_over_pieces_of_rows_equals_the_masked_form():
  """Four devices, each with half of the heads and half of the positions; the kernel's program run by interpretation."""
  root = Path(__file__).parents[2]
  environment = os.environ | {
    "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"
  }  # fmt: skip
  done = subprocess.run([sys.executable, "-c", PIECES], env=environment, cwd=root, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-2000:]
