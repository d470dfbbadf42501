"""Mini-Omni's way from a speech encoder to a language model: one gated network on every vector.

`down(silu(gate(x)) * up(x))` without offsets, 768 -> 4864 -> 896 (arXiv 2408.16725; `whisper_adapter` of its code, a
two-layer network in the paper's words).
"""

import dataclasses

from omni_jax.core.arrays import Key
from omni_jax.nn.feed_forward import GatedFeedForward


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedAdapterConfig:
  """Widths of the vectors that come in, of the network inside, and of the language model."""

  inputs: int
  mlp_dim: int
  outputs: int

  def make(self, *, key: Key) -> GatedFeedForward:
    """Returns an adapter with random weights."""
    return GatedFeedForward(width=self.inputs, mlp_dim=self.mlp_dim, outputs=self.outputs, key=key)


# `whisper_adapter_dim`, `intermediate_size` and `n_embd` in model_config.yaml of gpt-omni/mini-omni2.
MINI_OMNI_ADAPTER = GatedAdapterConfig(inputs=768, mlp_dim=4864, outputs=896)
