"""What the rest of the project knows of speech: waveform -> units, waveform -> style, units + style -> waveform.

Units come at a fixed rate; a language model reads and writes them *reduced* (each run of equal units once), and a
vocoder predicts the durations again.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from omni_jax.core.styles import Style


class SpeechTokenizer(Protocol):
  """Waveform to discrete units."""

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    ...

  @property
  def frame_rate(self) -> int:
    """Units per second, before reduction."""
    ...

  @property
  def num_codebooks(self) -> int:
    """Units per frame."""
    ...

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    ...

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns int32 units [U] of a float waveform [A]; U = ceil(A * frame_rate / sample_rate)."""
    ...

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the units of each waveform, equal to those of `encode`."""
    ...

  def time_batch(self, waveforms: Sequence[np.ndarray], units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns how many frames of 10 ms each reduced unit lasts, int32, from the waveforms and their own units."""
    ...


class StyleEncoder(Protocol):
  """Waveform to speaking style."""

  def hear(self, waveform: np.ndarray) -> Style:
    """Returns the most likely style of a float waveform [A] at 16 kHz."""
    ...

  def hear_batch(self, waveforms: Sequence[np.ndarray]) -> list[Style]:
    """Returns the style of each waveform, equal to that of `hear`."""
    ...


class VocoderStream(Protocol):
  """Speech being made while its units arrive."""

  def push(self, units: np.ndarray) -> np.ndarray:
    """Returns the samples [A] that are final now that these reduced units [N] are known; may be empty."""
    ...

  def finish(self) -> np.ndarray:
    """Returns the remaining samples [A]; all pieces together equal `Vocoder.decode` of all units."""
    ...


class Vocoder(Protocol):
  """Reduced units and style to waveform."""

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it makes."""
    ...

  def decode(self, units: np.ndarray, style: Style) -> np.ndarray:
    """Returns a float waveform [A] of reduced units [N] spoken in `style`."""
    ...

  def seconds(self, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
    """Returns how long `decode` would make each row of reduced units [N], to a few hundredths of a second."""
    ...

  def stream(self, style: Style) -> VocoderStream:
    """Returns an empty stream of the same voice."""
    ...
