"""A recording -> the vector that says how it is spoken: EMOVA's style encoder of unit-to-speech (Meta-StyleSpeech,
arXiv 2106.03153, section 3.1).

    spectrogram --frame by frame--> --gated convolutions--> --attention--> mean over time, length one

Reference file: EMOVA_speech_tokenizer `UVITS/models.py` (`MelStyleEncoder`). As there, it hears the linear spectrogram
and divides attention scores by the root of the whole width, not of a head's. Deviation: frames past the end are
zeroed before the convolutions too, so that a padded row gives what the row alone gives.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.nn.convolution import Convolution
from omni_jax.nn.dropout import drop, keys_of
from omni_jax.nn.linear import Linear

_HIDDEN_SCORE = -1e30
_SHORTEST = 1e-12  # length of a vector that is not lengthened to one

Valid = Float[Array, "B T"]
Spectrogram = Float[Array, "B T F"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoiceEncoderConfig:
  """Sizes of the encoder.

  Attributes:
    bins: of the linear spectrogram.
    width: of the hidden states.
    outputs: of the vector.
    taps: of the gated convolutions, of which there are two.
    num_heads: of attention.
    dropout: share left out in training.
  """

  bins: int
  width: int
  outputs: int
  taps: int
  num_heads: int
  dropout: float = 0.0

  def make(self, *, key: Key) -> "VoiceEncoder":
    """Returns a new encoder."""
    return VoiceEncoder(self, key=key)


class VoiceEncoder(nnx.Module):
  """Linear spectrogram -> a vector of length one."""

  def __init__(self, config: VoiceEncoderConfig, *, key: Key):
    self.config = config
    width, keys = config.width, jax.random.split(key, 9)

    def linear(inputs: int, outputs: int, one: Key) -> Linear:
      return Linear(inputs, outputs, axes=("embed", "mlp"), bias=True, key=one)

    self.first, self.second = linear(config.bins, width, keys[0]), linear(width, width, keys[1])
    self.gated = nnx.List(Convolution(width, 2 * width, taps=config.taps, key=one) for one in keys[2:4])
    self.query, self.key = linear(width, width, keys[4]), linear(width, width, keys[5])
    self.value, self.output = linear(width, width, keys[6]), linear(width, width, keys[7])
    self.vector = linear(width, config.outputs, keys[8])

  @typed
  def __call__(
    self, spectrogram: Float[Array, "B T F"], valid: Valid, *, key: Key | None = None
  ) -> Float[Array, "B G"]:
    """Returns the vector of each recording.

    Args:
      spectrogram: linear magnitudes.
      valid: 1 on frames of the recording, at least one.
      key: of dropout; None leaves everything in.
    """
    keys, rate, mask = keys_of(key, 6), self.config.dropout, valid[..., None]
    x = drop(_mish(self.first(spectrogram)), rate, key=keys[0])
    x = drop(_mish(self.second(x)), rate, key=keys[1])
    for gated, one in zip(self.gated, keys[2:4], strict=True):
      signal, gate = jnp.split(gated(x * mask), 2, axis=-1)
      x = x + drop(signal * jax.nn.sigmoid(gate), rate, key=one)
    x = x * mask
    x = x + drop(self._attend(x, valid, key=keys[4]), rate, key=keys[5])
    vector = (self.vector(x) * mask).sum(1) / valid.sum(1)[:, None]
    return vector / jnp.maximum(jnp.linalg.norm(vector, axis=-1, keepdims=True), _SHORTEST)

  def _attend(self, x: Hidden, valid: Valid, *, key: Key | None) -> Hidden:
    heads = (*x.shape[:2], self.config.num_heads, -1)
    queries, keys, values = (one(x).reshape(heads) for one in (self.query, self.key, self.value))
    scores = jnp.einsum("btnh,bsnh->bnts", queries, keys) * self.config.width**-0.5
    scores = jnp.where(valid[:, None, None, :] > 0, scores, _HIDDEN_SCORE)
    weights = drop(jax.nn.softmax(scores, axis=-1), self.config.dropout, key=key)
    return self.output(jnp.einsum("bnts,bsnh->btnh", weights, values).reshape(x.shape))


def _mish(x: Hidden) -> Hidden:
  return x * jnp.tanh(jax.nn.softplus(x))
