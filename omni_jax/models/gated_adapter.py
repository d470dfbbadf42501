"""Mini-Omni's way from a speech encoder to a language model: one gated network on every vector.

`down(silu(gate(x)) * up(x))` without offsets, 768 -> 4864 -> 896 (arXiv 2408.16725; `whisper_adapter` of its code, a
two-layer network in the paper's words).
"""

import dataclasses

import jax
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.nn.linear import Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedAdapterConfig:
  """Widths of the vectors that come in, of the network inside, and of the language model."""

  inputs: int
  mlp_dim: int
  outputs: int

  def make(self, *, key: Key) -> "GatedAdapter":
    """Returns an adapter with random weights."""
    return GatedAdapter(self, key=key)


# `whisper_adapter_dim`, `intermediate_size` and `n_embd` in model_config.yaml of gpt-omni/mini-omni2.
MINI_OMNI_ADAPTER = GatedAdapterConfig(inputs=768, mlp_dim=4864, outputs=896)


class GatedAdapter(nnx.Module):
  """Vectors of an encoder -> embeddings."""

  def __init__(self, config: GatedAdapterConfig, *, key: Key):
    gate, up, down = jax.random.split(key, 3)
    self.config = config
    self.gate = Linear(config.inputs, config.mlp_dim, axes=("embed", "mlp"), bias=False, key=gate)
    self.up = Linear(config.inputs, config.mlp_dim, axes=("embed", "mlp"), bias=False, key=up)
    self.down = Linear(config.mlp_dim, config.outputs, axes=("mlp", "embed"), bias=False, key=down)

  @typed
  def __call__(self, x: Hidden) -> Array:
    """Returns [B, T, outputs]."""
    return self.down(jax.nn.silu(self.gate(x)) * self.up(x))
