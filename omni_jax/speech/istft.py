r"""Time-varying filters by the short-time Fourier transform: an excitation in, a waveform out.

Frame t is centred on sample (t + 1/2) hop, as in `prepare.pitch`. A Hann window of two hops cuts the excitation into
frames that add up to it exactly; each is filtered in the frequency domain and the results are overlapped and added.
The transform is longer than the window, so that a filter may ring for 192 samples (12 ms) before it wraps.

    excitation  |-- hop --|-- hop --|-- hop --|        T frames need T + 1 segments of one hop
    window 0     ./~~~~~~~|~~~~~~~\.|         |
    window 1    |         |./~~~~~~~|~~~~~~~\.|
    filtered 0   ~~~~~~~~~~~~~~~~~~~~~~~~~~~\......    FFT samples

The phase of a filter follows from its magnitude: minimum phase, as of a vocal tract (Oppenheim and Schafer, chapter
13), so a network predicts log magnitudes alone. Both transforms and the phase are products with fixed matrices.
Legend: F frequency bins, W samples of a window, K bands of a filter.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from omni_jax.core.arrays import Array, typed

SAMPLE_RATE = 16000
HOP = 160  # 10 ms
WINDOW = 2 * HOP
FFT = 512
BINS = FFT // 2 + 1
TAIL = FFT - HOP  # samples by which the last frame's response outlives its hop

Excitation = Float[Array, "B X"]  # (T + 1) hops
LogMagnitudes = Float[Array, "B T F"]
Bands = Float[Array, "B T K"]


@functools.cache
def analysis_matrix() -> np.ndarray:
  """Returns [W, 2 F]: windowed samples -> real parts, then imaginary parts."""
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # periodic: shifted by a hop it sums to one
  angles = 2 * np.pi * np.outer(np.arange(WINDOW), np.arange(BINS)) / FFT
  return (window[:, None] * np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)).astype(np.float32)


@functools.cache
def synthesis_matrix() -> np.ndarray:
  """Returns [2 F, FFT]: real and imaginary parts -> samples, the inverse real transform."""
  eye = np.eye(BINS)
  return np.concatenate([np.fft.irfft(eye, FFT), np.fft.irfft(1j * eye, FFT)]).astype(np.float32)


@functools.cache
def phase_matrix() -> np.ndarray:
  """Returns [F, F]: log magnitudes -> minimum phase in radians, by folding the cepstrum."""
  cepstrum = np.fft.irfft(np.eye(BINS), FFT)
  fold = np.zeros(FFT)
  fold[0] = fold[FFT // 2] = 1.0
  fold[1 : FFT // 2] = 2.0
  return np.fft.rfft(cepstrum * fold).imag.astype(np.float32)


@functools.cache
def band_matrix(num_bands: int) -> np.ndarray:
  """Returns [K, F]: log magnitudes at `num_bands` mel-spaced frequencies, 0 to 8 kHz -> at every bin, linearly."""
  mel = 2595.0 * np.log10(1.0 + np.arange(BINS) * SAMPLE_RATE / FFT / 700.0)  # O'Shaughnessy's mel
  centres = np.linspace(0.0, mel[-1], num_bands)
  width = centres[1] - centres[0]
  return np.maximum(0.0, 1.0 - np.abs(mel[None] - centres[:, None]) / width).astype(np.float32)


@typed
def filter_excitation(excitation: Excitation, bands: Bands) -> Float[Array, "B T FF"]:
  """Returns the filtered frames before overlap-add.

  Args:
    excitation: (T + 1) hops of samples; the first hop begins half a hop before the first frame's own samples.
    bands: natural logarithm of the filter's magnitude at K mel-spaced frequencies, for each frame.
  """
  segments = excitation.reshape(excitation.shape[0], -1, HOP)
  windows = jnp.concatenate([segments[:, :-1], segments[:, 1:]], axis=-1)
  real, imaginary = jnp.split(windows @ analysis_matrix(), 2, axis=-1)
  log_magnitude = bands @ band_matrix(bands.shape[-1])
  magnitude, phase = jnp.exp(log_magnitude), log_magnitude @ phase_matrix()
  cosine, sine = magnitude * jnp.cos(phase), magnitude * jnp.sin(phase)
  spectrum = jnp.concatenate([real * cosine - imaginary * sine, real * sine + imaginary * cosine], axis=-1)
  return spectrum @ synthesis_matrix()


@typed
def overlap_add(frames: Float[Array, "B T FF"]) -> Float[Array, "B X"]:
  """Returns frames laid a hop apart and added, T hops + TAIL samples; their own samples start after half a hop."""
  batch, num_frames, length = frames.shape
  hops = -(-length // HOP)
  parts = jnp.pad(frames, ((0, 0), (0, 0), (0, hops * HOP - length))).reshape(batch, num_frames, hops, HOP)
  shifted = [jnp.pad(parts[:, :, hop], ((0, 0), (hop, hops - 1 - hop), (0, 0))) for hop in range(hops)]
  return sum(shifted[1:], shifted[0]).reshape(batch, -1)[:, : num_frames * HOP + TAIL]
