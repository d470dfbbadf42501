"""An encoder of speech that learns to hear: recordings -> the phone of each of its vectors.

Released systems start from a Whisper that heard 680,000 hours. A world with no released weights needs an encoder that
hears before a language model listens to it: here it learns to tell phones, and a later stage takes `hearing` alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Float, Key, Waveform, typed
from omni_jax.nn.linear import Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhoneReaderConfig:
  """What listens, and what it tells.

  Attributes:
    hearing: encoder of speech, such as `speech.whisper.WhisperConfig`: has `width`, `layout` and `make`.
    num_phones: different phones; silence is one more.
  """

  hearing: Any
  num_phones: int

  def make(self, *, key: Key) -> "PhoneReader":
    """Returns a reader with random weights."""
    return PhoneReader(self, key=key)


class PhoneReader(nnx.Module):
  """Waveform -> logits of phones."""

  def __init__(self, config: PhoneReaderConfig, *, key: Key):
    hearing, head = jax.random.split(key)
    self.config = config
    self.hearing = config.hearing.make(key=hearing)
    self.head = Linear(config.hearing.width, config.num_phones + 1, axes=("embed", None), bias=True, key=head)

  @typed
  def __call__(self, waveform: Waveform) -> Float[Array, "B U K"]:
    """Returns logits of the phone of each vector, silence last, also of the vectors behind the recording."""
    return self.head(self.hearing.features(waveform))

  def num_frames(self, samples: Array) -> Array:
    """Returns how many vectors belong to recordings of `samples` samples: `RecordingLayout.num_frames`, traced."""
    layout = self.config.hearing.layout
    return jnp.minimum(samples // layout.hop + 1, layout.most)
