"""Tiny speech-to-unit models and recordings for tests."""

import dataclasses

import jax
import numpy as np

from omni_jax.core import trees
from omni_jax.speech.speech_to_unit import SpeechToUnitConfig
from omni_jax.speech.spiral import ConvolutionConfig, SpiralConfig, StageConfig

TINY = SpeechToUnitConfig(
  encoder=SpiralConfig(
    num_mels=128,
    stages=(
      StageConfig(
        convolutions=(
          ConvolutionConfig(width=20, taps=5, stride=2),
          ConvolutionConfig(width=24, taps=5, stride=2),
          ConvolutionConfig(width=24, taps=1, relu=False),
        ),
        depth=2,
        num_heads=4,
        mlp_dim=40,
      ),
      StageConfig(
        convolutions=(ConvolutionConfig(width=36, taps=5), ConvolutionConfig(width=28, taps=1, relu=False)),
        depth=3,
        num_heads=7,
        mlp_dim=50,
        layer_drop=0.3,
      ),
    ),
    position_taps=16,
    position_groups=4,
  ),
  levels=(8, 8, 8, 8),
  num_phones=7,
  reader_width=16,
  reader_depth=4,
)


def drawn(config: SpeechToUnitConfig = TINY, *, seed: int = 0):
  """Returns a model whose biases and scales are random too, and whose places spread over all levels."""
  model = jax.jit(lambda key: config.make(key=key))(jax.random.key(seed))
  generator = np.random.default_rng(seed)

  def spread(path, leaf):
    noise = generator.normal(size=leaf.shape).astype(np.float32)
    return np.asarray(leaf) + (1.0 if path == "bottleneck.weight" else 0.1) * noise

  return trees.map_paths(spread, model)


def with_windows(*, whole_seconds: float, context_seconds: float) -> SpeechToUnitConfig:
  """Returns TINY with windows of another length."""
  return dataclasses.replace(TINY, whole_seconds=whole_seconds, context_seconds=context_seconds)


def recordings(*lengths: int, seed: int = 0) -> list[np.ndarray]:
  """Returns a vowel-like sound with noise and pauses of each length, float32 at 16 kHz."""
  generator = np.random.default_rng(seed)
  found = []
  for length in lengths:
    time = np.arange(length) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 2.3 * time + generator.uniform(0, 6))) / 16000
    voice = sum(np.sin(n * phase) / n for n in range(1, 25)) * (np.sin(2 * np.pi * 1.7 * time) > -0.5)
    found.append((0.2 * voice + 0.01 * generator.normal(size=length)).astype(np.float32))
  return found
