"""Normalisation over the width: RMSNorm (arXiv 1910.07467) for the decoder, LayerNorm for the image tower."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, typed
from omni_jax.nn.parameter import constant


class RMSNorm(nnx.Module):
  """Divides by the root mean square over the width and scales; no mean is taken, no offset added."""

  def __init__(self, *, width: int, eps: float):
    self.eps = eps
    self.scale = constant(1.0, (width,), axes=(None,))

  @typed
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Returns `x` normalised."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.scale[...]


class LayerNorm(nnx.Module):
  """Subtracts the mean, divides by the deviation, scales and offsets."""

  def __init__(self, *, width: int, eps: float):
    self.eps = eps
    self.scale = constant(1.0, (width,), axes=(None,))
    self.bias = constant(0.0, (width,), axes=(None,))

  @typed
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Returns `x` normalised."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]
