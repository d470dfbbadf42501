"""A model whose every parameter is drawn by NumPy: no bias is zero, no gain is one, nothing is compiled."""

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core import trees


def drawn_model(config, *, seed=0):
  """Kernels by their fan-in, so that signals keep their size; all else around 0.1, gains around 1."""
  model = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    values = rng.standard_normal(leaf.shape)
    if leaf.ndim >= 2 and max(leaf.shape) != leaf.size:
      values *= np.prod(leaf.shape[:-1]) ** -0.5
    else:
      values = 0.1 * values + (path.endswith(("gain", "scale", "alpha")))
    return jnp.asarray(values, jnp.float32)

  return trees.map_paths(draw, model)
