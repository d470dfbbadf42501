"""What the rest of the project knows of speech: waveform -> units, waveform -> style, units + style -> waveform.

Every part states its own time: `frame_rate` frames a second of `hop` samples each, so `frame_rate * hop` is the
`sample_rate`. A frame of a tokenizer holds `num_codebooks` units; in frames of a vocoder durations are counted. A
language model reads and writes units *reduced* (each run of equal units once), and a vocoder predicts the durations
again. SNAC reads and speaks rows of seven codes, [F, 7] instead of [U], one row a frame.

    part                rate      frame           what a stream waits for
    SpeechTokenizer     16 kHz    40 ms           the whole recording (its loudness and, in others, attention)
    SpeechToUnit        16 kHz    40 ms           the whole recording
    KMeansTokenizer     16 kHz    20 ms           the whole recording
    SNAC                24 kHz    85.3 ms         a few frames, both ways
    Vocoder             16 kHz    10 ms           a few units, a few frames
    UnitHiFiGAN         16 kHz    20 ms           two units, 21 frames
    UnitVoice           22.05 kHz 11.6 ms         all units, then 45 frames for each piece

What all of them do with odd input is the same:

    silence, clipped samples    a sound like any other; samples are taken as they are, also beyond -1..1
    one sample, a short one     filled up with silence (EMOVA's SpeechToUnit needs 257 samples and says so)
    NaN, infinite, no sample, several channels, whole numbers     UserError (`waveform_check.check_recording`)
    another sample rate         `prepare.audio` brings files to the rate that a part states
    an hour                     read and spoken in windows; UnitVoice takes 4096 units at once and says so
    units out of range, no units, unknown styles                  UserError
    durations of zero           the unit is not heard; where all are zero, one frame is
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from omni_jax.core.styles import Style

# How something is spoken: one of the 24 styles; a name that the vocoder knows (a condition string, a speaker's number);
# or None, as the vocoder speaks when nobody says how. A vocoder of one voice does not hear styles.
Manner = Style | str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
  """What the samples of a frame depend on, besides the frame and its unit.

  Attributes:
    units_before: units before a unit that its state and duration depend on; None: all.
    units_after: units after it; None: all, so that nothing sounds before the last unit is known.
    frames_before: frames before a frame that its samples depend on.
    frames_after: frames after it.
  """

  units_before: int | None = 0
  units_after: int | None = 0
  frames_before: int = 0
  frames_after: int = 0

  def lookahead_seconds(self, *, unit_seconds: float, frame_rate: float) -> float:
    """Returns how far sound that is final ends before the end of the units that are known, infinite if all are needed.

    Args:
      unit_seconds: of one of the `units_after`; where there are none the result holds whatever durations are.
      frame_rate: frames a second.
    """
    if self.units_after is None:
      return math.inf
    return self.units_after * unit_seconds + self.frames_after / frame_rate


@runtime_checkable
class SpeechPart(Protocol):
  """The time and the units of a part."""

  @property
  def sample_rate(self) -> int:
    """Samples a second of its waveforms."""
    ...

  @property
  def frame_rate(self) -> float:
    """Frames a second: 25.0 for EMOVA's tokenizer, 11.72 for SNAC."""
    ...

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    ...

  @property
  def num_codebooks(self) -> int:
    """Units of a frame."""
    ...

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    ...


@runtime_checkable
class SpeechStream(Protocol):
  """Speech being read or made while it arrives."""

  def push(self, values: np.ndarray) -> np.ndarray:
    """Returns what is final now that these samples or units are known; may be empty.

    Raises:
      UserError: values that the part does not take, or the stream was finished.
    """
    ...

  def finish(self) -> np.ndarray:
    """Returns the rest; all pieces together equal `encode` or `decode` of everything."""
    ...


@runtime_checkable
class SpeechTokenizer(SpeechPart, Protocol):
  """Waveform to discrete units."""

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns int32 units [U] of a float waveform [A]; U = ceil(A / hop)."""
    ...

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the units of each waveform, equal to those of `encode`."""
    ...

  def encode_stream(self) -> SpeechStream:
    """Returns an empty stream from samples to units."""
    ...

  def time_batch(self, waveforms: Sequence[np.ndarray], units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns how many frames of 10 ms each reduced unit lasts, int32, from the waveforms and their own units."""
    ...


@runtime_checkable
class PhoneReader(SpeechTokenizer, Protocol):
  """A tokenizer that was trained to read phones through its units, by which evaluation judges it."""

  def phones_batch(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
    """Returns the ids of the phones read from each waveform."""
    ...


class StyleEncoder(Protocol):
  """Waveform to speaking style."""

  def hear(self, waveform: np.ndarray) -> Style:
    """Returns the most likely style of a float waveform [A] at 16 kHz."""
    ...

  def hear_batch(self, waveforms: Sequence[np.ndarray]) -> list[Style]:
    """Returns the style of each waveform, equal to that of `hear`."""
    ...


@runtime_checkable
class Vocoder(SpeechPart, Protocol):
  """Reduced units and style to waveform."""

  @property
  def context(self) -> Context:
    """What the sound of a unit depends on."""
    ...

  @property
  def lookahead_seconds(self) -> float:
    """Seconds by which a stream's sound lags behind the units it was given (`Context.lookahead_seconds`)."""
    ...

  def decode(self, units: np.ndarray, style: Manner = None) -> np.ndarray:
    """Returns a float waveform [A] of reduced units [U] spoken in `style`."""
    ...

  def seconds(self, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
    """Returns how long `decode` would make each row of reduced units [U], to a few hundredths of a second."""
    ...

  def stream(self, style: Manner = None) -> SpeechStream:
    """Returns an empty stream of the same voice."""
    ...
