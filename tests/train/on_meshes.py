"""One step on meshes of eight devices beside one device; run by tests in a process that has eight."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core import sharding, trees
from omni_jax.train.losses import CalmNextToken
from omni_jax.train.optimizer import OptimizerConfig, make_optimizer
from omni_jax.train.state import abstract_state, describe
from omni_jax.train.step import StepConfig, make_step
from tests.train import packed

MODELS = {
  "bare": packed.model_config,  # and no images
  "experts": lambda: packed.model_config(experts=packed.experts_config(), dense_depth=1),
  "wide": packed.wide_config,
}


def batch_of(size, *, rows):
  return {name: array for name, array in packed.batch_of(rows).items() if size != "bare" or "patch" not in name}


def drawn(abstract):
  """Returns a first state in NumPy: the same numbers on every mesh, and nothing to compile."""
  generator = np.random.default_rng(0)
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
  learning = {
    path: (generator.standard_normal(leaf.shape) * 0.3 + ("scale" in path)).astype(np.float32)
    for path, leaf in sorted(abstract.learning.items())
  }
  return zeros._replace(learning=learning)


def first_step(size, mesh, *, accumulate):
  """Returns (loss, gradient of every parameter) of the first step."""
  model = MODELS[size]()
  shapes = jax.eval_shape(lambda: model.make(key=jax.random.key(0)))
  # No clipping, so that the first momentum is a tenth of the gradient.
  optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2), parameters=describe(shapes), steps=9)
  abstract = abstract_state(shapes, optimizer, mesh)
  state = jax.tree.map(lambda leaf, value: jax.device_put(value, leaf.sharding), abstract, drawn(abstract))
  step = make_step(
    CalmNextToken(z_weight=1e-3),
    shapes,
    optimizer=optimizer,
    abstract=abstract,
    seed=0,
    config=StepConfig(accumulate=accumulate),
  )
  rows = sharding.batch_sharding(mesh)
  batch = {name: jax.device_put(array, rows) for name, array in batch_of(size, rows=8 * accumulate).items()}
  with jax.set_mesh(mesh):
    state, sums = step(state, batch)
  moments = trees.flatten(state.moments)
  gradient = {path.partition(".mu.")[2]: np.asarray(leaf) * 10 for path, leaf in moments.items() if ".mu." in path}
  whole_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state.moments))
  own_bytes = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.moments))
  return float(sums["loss"][0]), gradient, own_bytes / whole_bytes


def main(meshes, *, size, accumulate):
  """Prints one JSON line per mesh: relative difference of the loss, largest of a gradient, share of moments held."""
  assert jax.device_count() == 8
  alone = sharding.make_mesh(devices=jax.devices()[:1])
  loss, gradient, _ = first_step(size, alone, accumulate=accumulate)
  norm = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in gradient.values())))
  for text in meshes:
    found, other, share = first_step(size, sharding.make_mesh(text), accumulate=accumulate)
    worst = max(float(np.abs(other[path] - leaf).max()) for path, leaf in gradient.items())
    print(json.dumps({"mesh": text, "loss": abs(found / loss - 1), "gradient": worst / norm, "share": share}))


if __name__ == "__main__":
  main(sys.argv[3:], size=sys.argv[1], accumulate=int(sys.argv[2]))
