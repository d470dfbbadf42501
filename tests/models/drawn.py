"""Models with drawn weights, made without compiling the initialisers one by one."""

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core import trees


def drawn(config, *, seed=0, deviation=0.2):
  """Returns the model of a config with normal weights around 0, scales around 1."""
  abstract = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  generator = np.random.default_rng(seed)
  leaves = {}
  for path, leaf in trees.flatten(abstract).items():
    noise = deviation * generator.standard_normal(leaf.shape) + path.endswith("scale")
    leaves[path] = jnp.asarray(noise.astype(np.float32))
  return trees.unflatten(abstract, leaves)
