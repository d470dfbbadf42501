"""A vocoder small enough for tests, shared by those of the network, the stream and the export."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.speech.vocoder import Vocoder, VocoderConfig

SMALL = VocoderConfig(
  levels=(3, 4), width=16, frame_width=12, kernel=3, unit_blocks=((1, 1), (2, 0)), frame_dilations=(1, 2),
  harmonic_bands=12, noise_bands=6, places=4,
)  # fmt: skip


@functools.cache
def make_vocoder(config: VocoderConfig = SMALL) -> Vocoder:
  """Returns a vocoder with random weights, loud enough that differences would show."""
  vocoder = jax.jit(lambda key: config.make(key=key))(jax.random.key(0))
  for weight in (vocoder.pitch, vocoder.duration):
    weight[...] = weight[...] * 8.0
  vocoder.filter_bias[...] = jnp.full_like(vocoder.filter_bias[...], -2.0)
  return vocoder


def random_units(number: int, seed: int = 0) -> np.ndarray:
  """Returns units none of which equals the one before."""
  steps = np.random.default_rng(seed).integers(1, SMALL.codebook_size, number)
  return (np.cumsum(steps) % SMALL.codebook_size).astype(np.int32)
