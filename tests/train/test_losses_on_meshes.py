"""The loss of tokens where rows and positions are split: the same value and gradient, the table gathered once."""

import subprocess
import sys

import jax
import jax.numpy as jnp

from omni_jax.train.losses import next_token
from tests.devices import environment
from tests.train import packed
from tests.train.stages import ROOT
from tests.train.test_meshes import abstract_mesh

CODE = """
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from omni_jax.core import sharding
from omni_jax.train.losses import next_token

class Toy(nnx.Module):
  def __init__(self):
    self.scale = nnx.Param(jnp.float32(1.5))
    self.table = nnx.Param(jax.random.normal(jax.random.key(0), (24, 8)))
  def hidden(self, batch):
    return batch["x"] * self.scale[...]
  def logits(self, hidden):
    return hidden @ self.table[...].T

rows, length = 8, 64
batch = {
  "x": jax.random.normal(jax.random.key(1), (rows, length, 8)),
  "targets": jax.random.randint(jax.random.key(2), (rows, length), 0, 24),
  "loss_mask": (jax.random.uniform(jax.random.key(3), (rows, length)) < 0.3).at[:3].set(0).astype(jnp.float32),
  "target_kind": jax.random.randint(jax.random.key(4), (rows, length), 1, 4),
}
step = lambda: jax.jit(jax.value_and_grad(lambda model, batch: next_token(model, batch, None), has_aux=True))
(loss, sums), gradient = step()(Toy(), batch)
for text in ("fsdp=8", "fsdp=2,sequence=4", "replica=2,fsdp=2,tensor=2"):
  mesh = sharding.make_mesh(text)
  split = {name: jax.device_put(array, sharding.batch_sharding(mesh)) for name, array in batch.items()}
  model = jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, PartitionSpec())), Toy())
  model.table = nnx.Param(jax.device_put(model.table[...], NamedSharding(mesh, PartitionSpec("tensor", "fsdp"))))
  with jax.set_mesh(mesh):
    (found, others), other = step()(model, split)
  assert abs(found / loss - 1) < 1e-6, (text, found, loss)
  jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), sums, others)
  jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), gradient, other)
"""


def test_rows_and_positions_may_be_split():
  done = subprocess.run([sys.executable, "-c", CODE], env=environment(8), cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]


def test_the_table_is_not_kept_for_every_chunk():
  model = jax.eval_shape(lambda: packed.model_config().make(key=jax.random.key(0)))
  batch = {name: jnp.asarray(array) for name, array in packed.batch_of(8, length=64).items()}
  with jax.sharding.use_abstract_mesh(abstract_mesh(fsdp=2, sequence=2)):
    step = jax.make_jaxpr(jax.grad(lambda model, batch: next_token(model, batch, jax.random.key(0))[0]))(model, batch)
  assert "f32[40,16]" in str(step) and "f32[8,40,16]" not in str(step)  # eight chunks of a row
