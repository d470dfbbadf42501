"""Mel cepstra with their changes, and the classes of k-means on them: the first labels that a HuBERT learns from.

HuBERT's first iteration (arXiv 2106.07447, section 4.2) predicts classes of 39 numbers a frame: 13 cepstral
coefficients, how they change (a slope over five frames) and how that changes. Deviation: the spectra are those of
`speech.mel`, at the rate of HuBERT's frames instead of twice that rate of which every second label was used.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni_jax.core.arrays import Array, Float, Int, Key, Units, Waveform, typed
from omni_jax.core.errors import UserError
from omni_jax.nn.parameter import weight
from omni_jax.speech.kmeans import nearest
from omni_jax.speech.mel import MelConfig, log_mel

_SIDE = 2  # frames before and after that a slope is taken over


@dataclasses.dataclass(frozen=True, kw_only=True)
class MfccLabellerConfig:
  """Which cepstra, and how many classes of them.

  Attributes:
    mel: spectra; a hop is as long as a frame of the HuBERT that learns.
    num_coefficients: of each spectrum that are kept.
    num_classes: number of centres.
  """

  mel: MelConfig
  num_coefficients: int
  num_classes: int

  def __post_init__(self):
    if not 0 < self.num_coefficients <= self.mel.num_mels or self.num_classes < 1:
      raise UserError(
        f"{self.num_coefficients} coefficients of {self.mel.num_mels} mel bins, {self.num_classes} classes",
        where="config of cepstral labels",
        rule="at least one coefficient and no more than bins, and at least one class",
        remedy="change the one out of range",
      )

  @property
  def width(self) -> int:
    """Numbers in a frame."""
    return 3 * self.num_coefficients

  def make(self, *, key: Key) -> "MfccLabeller":
    """Returns a labeller with random centres."""
    return MfccLabeller(self, key=key)


class MfccLabeller(nnx.Module):
  """Waveform -> the class of each frame."""

  def __init__(self, config: MfccLabellerConfig, *, key: Key):
    self.config = config
    self.centres = weight(key, (config.num_classes, config.width), axes=(None, None), fan_in=1)

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    return self.config.mel.sample_rate

  def num_frames(self, samples: Array) -> Array:
    """Returns the frames of recordings of `samples` samples."""
    return self.config.mel.num_frames(samples)

  @typed
  def frames(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B T F"]:
    """Returns what is classified, 3 * num_coefficients numbers a frame; a padded row gives the frames of it alone."""
    basis = jnp.asarray(_cosines(self.config.mel.num_mels, self.config.num_coefficients))
    cepstra = log_mel(waveform, self.config.mel) @ basis
    num_frames = self.num_frames(samples)
    change = _slope(cepstra, num_frames)
    return jnp.concatenate([cepstra, change, _slope(change, num_frames)], axis=-1)

  @typed
  def units(self, waveform: Waveform, samples: Int[Array, "B"]) -> Units:
    """Returns the class of each frame; those at and after `num_frames(samples)` mean nothing."""
    return nearest(self.frames(waveform, samples), self.centres[...])


def _cosines(num_mels: int, num_coefficients: int) -> np.ndarray:
  """Returns the orthonormal cosine transform [M, num_coefficients]."""
  angles = np.pi / num_mels * (np.arange(num_mels)[:, None] + 0.5) * np.arange(num_coefficients)
  scale = np.where(np.arange(num_coefficients) == 0, np.sqrt(1 / num_mels), np.sqrt(2 / num_mels))
  return (np.cos(angles) * scale).astype(np.float32)


def _slope(x: Array, num_frames: Array) -> Array:
  """Returns the slope of the line through five frames, the first and last valid frame held beyond the ends."""
  time, last = jnp.arange(x.shape[1])[None, :], jnp.maximum(num_frames, 1)[:, None] - 1
  total = jnp.zeros_like(x)
  for step in range(1, _SIDE + 1):
    ahead, behind = (
      jnp.take_along_axis(x, jnp.clip(time + sign * step, 0, last)[..., None], axis=1) for sign in (1, -1)
    )
    total += step * (ahead - behind)
  return total / (2 * sum(step * step for step in range(1, _SIDE + 1)))
