"""How heard speech enters a batch: whole windows of 16-bit samples, one for each recording, laid into packed rows.

It does for sound what `batches.pictures` does for images, by the same names, so that packing and the mixture ask
neither which it is. A recording takes as many places as the encoder gives vectors.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from omni_jax.batches.pictures import Pictures, packed
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio, sound_length
from omni_jax.prepare.recordings import RecordingLayout

Recording = bytes | np.ndarray  # a sound file's bytes, or samples float [A] at 16 kHz


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recordings:
  """How speech is cut for an encoder: `layout` is its own."""

  layout: RecordingLayout

  @property
  def unit(self) -> int:
    """Recordings of a row are a multiple of this."""
    return 1

  def read(self, recordings: Sequence[Recording]) -> Pictures:
    """Returns the windows of recordings of any number, and the places each takes.

    Raises:
      UserError: bytes that are no sound, or a recording longer than a window.
    """
    waveforms = [decode_audio(one) if isinstance(one, bytes) else np.asarray(one, np.float32) for one in recordings]
    windows, frames = self.layout.windows(waveforms)
    return Pictures(tuple(frames.tolist()), {"recordings": windows, "recording_frames": frames})

  def measure(self, recordings: Sequence[bytes]) -> tuple[tuple[int, ...], int]:
    """Returns the places that each recording takes and their number, as `read` would, from their heads alone.

    Raises:
      UserError: as `read`, unless only its samples are damaged.
    """
    places = []
    for one in recordings:
      length = sound_length(one)
      # Records hold sound at 16 kHz; of another rate only resampling tells.
      samples = length.samples if length.sample_rate == SAMPLE_RATE else len(decode_audio(one))
      self.layout.require(samples)
      places.append(int(self.layout.num_frames(samples)))
    return tuple(places), len(places)

  def lengths(self, pieces: int, *, tokens: int) -> dict[str, int]:
    """Returns the length of each array in a row of so many recordings."""
    return {"recordings": pieces, "recording_frames": pieces}

  def finished(self, row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the recordings of a packed row."""
    return {name: row[name] for name in ("recordings", "recording_frames")}

  def filled(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns which places for recordings hold one, bool [B, N]."""
    return batch["recording_frames"] > 0

  def row(self, pictures: Pictures) -> dict[str, np.ndarray]:
    """Returns what the model reads of one prompt; the number of recordings is one of few."""
    return self.finished(packed(pictures, {"recordings": (1, 0), "recording_frames": (1, 0)}))
