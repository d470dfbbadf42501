"""A matrix with an optional offset: every learned map of a width onto a width."""

from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Key, typed
from omni_jax.core.sharding import current_mesh
from omni_jax.nn.parameter import constant, weight


class Linear(nnx.Module):
  """`x @ weight + bias`, the weight stored [inputs, outputs]; `bias` is None where there is none."""

  def __init__(self, inputs: int, outputs: int, *, axes: tuple[str | None, str | None], bias: bool, key: Key):
    self.weight = weight(key, (inputs, outputs), axes=axes, fan_in=inputs)
    self.bias = constant(0.0, (outputs,), axes=(axes[1],)) if bias else None

  @typed
  def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
    """Returns the image of `x`."""
    matrix = self.weight[...]
    if current_mesh() is not None:
      y = x @ matrix  # rows that are split over one mesh axis and positions over another cannot be laid flat in place
    else:
      # Rows flat: XLA's CPU gradient of a product with three axes is a third slower than of one with two.
      y = (x.reshape(-1, matrix.shape[0]) @ matrix).reshape(*x.shape[:-1], matrix.shape[1])
    return y if self.bias is None else y + self.bias[...]
