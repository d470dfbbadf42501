"""The two per-position networks: gated (SwiGLU, arXiv 2002.05202) for the decoder, plain for the image tower."""

from collections.abc import Callable

import jax
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.core.sharding import constrain
from omni_jax.nn.linear import Linear

# Of what lies between the two products. Left open where a device has few rows, the compiler moves these arrays to the
# parts of the weights, and computes and keeps positions that belong to others.
INNER_AXES = ("batch", "sequence", "mlp")


class GatedFeedForward(nnx.Module):
  """`down(silu(gate(x)) * up(x))`, no biases (Qwen2.5, Llama); `outputs` is the width if not given."""

  def __init__(self, *, width: int, mlp_dim: int, outputs: int | None = None, key: Key):
    gate, up, down = jax.random.split(key, 3)
    self.gate = Linear(width, mlp_dim, axes=("embed", "mlp"), bias=False, key=gate)
    self.up = Linear(width, mlp_dim, axes=("embed", "mlp"), bias=False, key=up)
    self.down = Linear(mlp_dim, outputs or width, axes=("mlp", "embed"), bias=False, key=down)

  @typed
  def __call__(self, x: Hidden) -> Array:
    """Returns [B, T, outputs]."""
    gate, up = constrain(self.gate(x), INNER_AXES), constrain(self.up(x), INNER_AXES)
    return self.down(jax.nn.silu(gate) * up)


class FeedForward(nnx.Module):
  """`down(activation(up(x)))` with biases; `outputs` may differ from the width (mergers, projectors)."""

  def __init__(self, *, width: int, mlp_dim: int, outputs: int, activation: Callable[[Array], Array], key: Key):
    up, down = jax.random.split(key)
    self.activation = activation
    self.up = Linear(width, mlp_dim, axes=("embed", "mlp"), bias=True, key=up)
    self.down = Linear(mlp_dim, outputs, axes=("mlp", "embed"), bias=True, key=down)

  @typed
  def __call__(self, x: Hidden) -> Array:
    """Returns [B, T, outputs]."""
    return self.down(self.activation(constrain(self.up(x), INNER_AXES)))


def quick_gelu(x: Array) -> Array:
  """Returns `x * sigmoid(1.702 x)`, the approximation that CLIP and Qwen2-VL were trained with."""
  return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Array) -> Array:
  """Returns the exact, not the tanh, Gaussian error linear unit."""
  return jax.nn.gelu(x, approximate=False)


def tanh_gelu(x: Array) -> Array:
  """Returns the approximation by tanh of the Gaussian error linear unit that SigLIP was trained with."""
  return jax.nn.gelu(x, approximate=True)
