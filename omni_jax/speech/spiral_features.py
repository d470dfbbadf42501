"""What EMOVA's speech-to-unit model hears: normalised log-mel frames, the same in NumPy (hosts) and JAX (devices).

Follows `AudioToMelSpectrogramPreprocessor` of the EMOVA speech tokenizer (NeMo's, with time-domain normalisation):

    peak 1 -> pre-emphasis -> reflected ends -> 20 ms Hann window each 10 ms -> power -> mel -> log -> per-bin norm

Frame t covers samples [hop * (t - 1), hop * (t + 1)), so two hops side by side make a frame. A recording is reflected
at its own end, wherever its row ends: deviation from the original, whose rows of a padded batch see zeros there, so
that a batch gives other features than each recording alone. The window lies at the beginning of the Fourier transform,
not in its middle, which changes phases only.
"""

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Int, Key, Mel, Waveform, typed
from omni_jax.speech.mel import MelConfig, filterbank

EMOVA_MEL = MelConfig(
  sample_rate=16000, hop_samples=160, window_samples=320, fft_size=512, num_mels=128, low_hz=0.0, high_hz=8000.0,
  floor=2**-24,
)  # fmt: skip
FRAME_MULTIPLE = 4  # frames come in whole groups of this many, zero past the end
FEWEST_SAMPLES = EMOVA_MEL.fft_size // 2 + 1  # what the original can still reflect
_PREEMPHASIS = 0.97
_DITHER = 1e-5
_EPS = 1e-5  # on the peak and on the deviation


@typed
def spiral_features(
  waveform: Waveform, samples: Int[Array, "B"], config: MelConfig = EMOVA_MEL, *, key: Key | None = None
) -> Mel:
  """Returns frames [B, T, M] of mean 0 and deviation 1 in each bin over `ceil(samples / hop)`, zero after them.

  T is `ceil(A / hop)`, rounded up to a multiple of 4. A silent recording has features of exactly 0.

  Args:
    waveform: rows of recordings; what lies past `samples` is not read.
    samples: of each row, at least 257; rows with fewer mean nothing.
    config: of the analysis; the window is two hops.
    key: of the dither (noise of 1e-5 of the peak) that training adds; none without.
  """
  noise = None if key is None else _DITHER * jax.random.normal(key, waveform.shape)
  project = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  return _features(jnp, waveform, samples, config=config, noise=noise, project=project)


def spiral_features_numpy(waveform: np.ndarray, samples: np.ndarray, config: MelConfig = EMOVA_MEL) -> np.ndarray:
  """Returns the same as `spiral_features`, float32 [B, T, M] from [B, A] and [B], computed by NumPy."""
  waveform = np.asarray(waveform, np.float32)
  return _features(np, waveform, np.asarray(samples), config=config, noise=None, project=np.matmul)


@functools.lru_cache
def symmetric_hann(size: int) -> np.ndarray:
  """Returns the Hann window whose first and last values are both zero, float32 [size]."""
  return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))).astype(np.float32)


def _features(xp: ModuleType, waveform: Any, samples: Any, *, config: MelConfig, noise: Any, project: Any) -> Any:
  hop, size = config.hop_samples, waveform.shape[-1]
  assert config.window_samples == 2 * hop, f"a window of {config.window_samples} is not two hops of {hop}"
  num_frames = -(-config.num_frames(size) // FRAME_MULTIPLE) * FRAME_MULTIPLE
  waveform = xp.where(xp.arange(size)[None] < samples[:, None], waveform, np.float32(0))
  x = waveform * (1 / (xp.abs(waveform).max(-1, keepdims=True) + np.float32(_EPS)))
  x = x if noise is None else x + noise
  x = xp.concatenate([x[:, :1], x[:, 1:] - np.float32(_PREEMPHASIS) * x[:, :-1]], axis=-1)
  x = xp.take_along_axis(x, _reflected(xp, samples, start=-hop, stop=num_frames * hop, size=size), axis=-1)
  hops = x.reshape(x.shape[0], num_frames + 1, hop)
  frames = xp.concatenate([hops[:, :-1], hops[:, 1:]], axis=-1) * symmetric_hann(config.window_samples)
  spectrum = xp.fft.rfft(frames, n=config.fft_size)
  power = (xp.square(spectrum.real) + xp.square(spectrum.imag)).astype(np.float32)
  features = xp.log(project(power, filterbank(config)) + np.float32(config.floor))
  return _normalise(xp, features, config.num_frames(samples))


def _reflected(xp: ModuleType, samples: Any, *, start: int, stop: int, size: int) -> Any:
  """Returns for each place in [start, stop) of each row the sample that stands there, the ends not repeated."""
  place = abs(xp.arange(start, stop))[None]
  last = samples[:, None] - 1
  return xp.clip(xp.where(place > last, 2 * last - place, place), 0, size - 1)


def _normalise(xp: ModuleType, features: Any, num_frames: Any) -> Any:
  valid = (xp.arange(features.shape[1])[None] < num_frames[:, None])[..., None]
  count = num_frames[:, None, None].astype(np.float32)
  # Seen from the first frame, a constant bin has a mean of exactly 0: silence stays silence, not rounding noise.
  shifted = xp.where(valid, features - features[:, :1], np.float32(0))
  mean = shifted.sum(1, keepdims=True) / xp.maximum(count, 1)
  centred = xp.where(valid, shifted - mean, np.float32(0))
  deviation = xp.sqrt(xp.square(centred).sum(1, keepdims=True) / xp.maximum(count - 1, 1))
  return centred / (deviation + np.float32(_EPS))
