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
    """Returns `x` normalised; the mean square is taken in float32, the scale applied in the dtype of `x`."""
    wide = x.astype(jnp.float32)
    normalised = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
    return normalised.astype(x.dtype) * self.scale[...]


class LayerNorm(nnx.Module):
  """Subtracts the mean, divides by the deviation, scales and offsets."""

  def __init__(self, *, width: int, eps: float):
    self.eps = eps
    self.scale = constant(1.0, (width,), axes=(None,))
    self.bias = constant(0.0, (width,), axes=(None,))

  @typed
  def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Returns `x` normalised; mean and variance are taken in float32, and the result is rounded once."""
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + self.eps) * self.scale[...] + self.bias[...]).astype(x.dtype)
