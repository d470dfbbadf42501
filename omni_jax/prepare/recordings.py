"""Recordings as an encoder of speech takes them: windows of one length, and how many vectors belong to each.

What `prepare.tiles` is for images: the data side cuts so, the model side reads so, and neither knows the other.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import SAMPLE_RATE, to_pcm


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordingLayout:
  """What a model hears of a recording at 16 kHz.

  Attributes:
    hop: samples of a vector.
    most: vectors of the longest recording.
  """

  hop: int = 320
  most: int = 1500

  def __post_init__(self):
    if self.hop < 1 or self.most < 1:
      raise UserError(
        f"{self.most} vectors of {self.hop} samples",
        where="layout of recordings",
        rule="a window has at least one vector of at least one sample",
        remedy="correct the layout",
      )

  @property
  def samples(self) -> int:
    """Samples of a window."""
    return self.hop * self.most

  def num_frames(self, samples: np.ndarray | int) -> np.ndarray:
    """Returns how many vectors belong to so many samples, as Mini-Omni counts them: one for each hop begun."""
    return np.minimum(np.asarray(samples) // self.hop + 1, self.most)

  def require(self, samples: int) -> None:
    """Raises a UserError unless a recording of so many samples has sound and fits a window."""
    if not 0 < samples <= self.samples:
      raise UserError(
        f"a recording of {samples / SAMPLE_RATE:.2f} seconds",
        where="speech",
        rule=f"it has sound, and at most {self.samples / SAMPLE_RATE:g} seconds",
        remedy="cut the recording into pieces",
      )

  def windows(self, waveforms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns 16-bit samples int16 [N, samples], filled up with silence, and the vectors of each, int32 [N].

    Raises:
      UserError: a recording [A] that is empty or longer than a window; the original cuts its end off in silence.
    """
    rows = np.zeros((len(waveforms), self.samples), np.int16)
    for row, waveform in zip(rows, waveforms, strict=True):
      self.require(len(waveform))
      row[: len(waveform)] = to_pcm(waveform)
    lengths = np.array([len(waveform) for waveform in waveforms], np.int64)
    return rows, self.num_frames(lengths).astype(np.int32).reshape(-1)
