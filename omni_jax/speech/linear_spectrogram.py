"""Linear magnitudes of a recording, which VITS' posterior encoder and EMOVA's voice encoder hear; NumPy and JAX.

Frame t looks at `fft_size` samples around the middle of hop t; the recording is reflected at both ends, so A samples
have A // hop frames and recordings are analysed one by one, before they are padded to a batch. Reference: VITS
`mel_processing.py` (`spectrogram_torch`): periodic Hann window, 1e-6 under the root.
"""

import dataclasses
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from omni_jax.core.arrays import Array, Waveform, typed
from omni_jax.core.errors import UserError

_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearSpectrogramConfig:
  """Sizes of the analysis, in samples."""

  fft_size: int
  hop: int

  def __post_init__(self):
    assert (self.fft_size - self.hop) % 2 == 0, "the window reaches equally far on both sides of its hop"

  @property
  def bins(self) -> int:
    """Frequencies of a frame."""
    return self.fft_size // 2 + 1

  @property
  def side(self) -> int:
    """Samples of a window before and after its hop."""
    return (self.fft_size - self.hop) // 2


EMOVA_SPECTROGRAM = LinearSpectrogramConfig(fft_size=1024, hop=256)


@typed
def linear_spectrogram(waveform: Waveform, config: LinearSpectrogramConfig) -> Float[Array, "B T F"]:
  """Returns magnitudes [B, A // hop, bins] of waveforms of one length, more than `config.side` samples."""
  return _magnitudes(jnp, waveform, config)


def linear_spectrogram_numpy(waveform: np.ndarray, config: LinearSpectrogramConfig) -> np.ndarray:
  """Returns float32 magnitudes [A // hop, bins] of one recording [A].

  Raises:
    UserError: too short to be reflected, more than one channel, or samples that are not numbers.
  """
  shape, shortest = np.shape(waveform), max(config.side + 1, config.hop)
  if len(shape) != 1 or shape[0] < shortest or not np.isfinite(waveform).all():
    raise UserError(
      f"a waveform of shape {shape}, all samples numbers: {bool(np.isfinite(waveform).all())}",
      where="linear spectrogram",
      rule=f"a recording is one row of at least {shortest} numbers",
      remedy="mix its channels into one, and leave out recordings that are shorter or damaged",
    )
  return _magnitudes(np, np.asarray(waveform, np.float32)[None], config)[0].astype(np.float32)


def _magnitudes(xp: ModuleType, waveform: Any, config: LinearSpectrogramConfig) -> Any:
  num_frames = waveform.shape[-1] // config.hop
  padded = xp.pad(waveform, ((0, 0), (config.side, config.side)), mode="reflect")
  place = config.hop * np.arange(num_frames)[:, None] + np.arange(config.fft_size)[None]
  window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.fft_size) / config.fft_size)).astype(np.float32)
  spectrum = xp.fft.rfft(padded[:, place] * window, axis=-1)
  return xp.sqrt(xp.square(spectrum.real) + xp.square(spectrum.imag) + _FLOOR)
