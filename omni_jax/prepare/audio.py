"""Sound in and out: every waveform in the project is float32, one channel, within -1..1, and at 16 kHz if nothing else
is said.

Files of any common format are read by libsndfile a minute at a time, so that an hour of stereo takes little more memory
than its one channel; they are resampled by soxr. Corpora hold FLAC bytes.
"""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

SAMPLE_RATE = 16000
_LOWEST_RATE, _HIGHEST_RATE = 4000, 384000
_BLOCK_VALUES = 2**23  # of all channels, decoded at once
_MOST_VALUES = 2**27  # silence in a thousand channels is a small file
_FLAC_LENGTH = 2**36 - 1  # the bits of the number of samples in a header
_FLAC_COMPRESSION = 0.0  # the fastest: a tenth larger than the smallest, five times quicker


def encode_flac(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> bytes:
  """Returns `waveform` (float [A], clipped to -1..1) as 16-bit FLAC bytes."""
  import soundfile

  buffer = io.BytesIO()
  pcm = to_pcm(waveform)
  soundfile.write(buffer, pcm, sample_rate, format="FLAC", subtype="PCM_16", compression_level=_FLAC_COMPRESSION)
  return buffer.getvalue()


def decode_audio(data: bytes, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
  """Returns the waveform, float32 [A] at `sample_rate`, of the bytes of a sound file.

  Raises:
    UserError: the bytes are no sound file, hold no samples, or state an impossible sample rate.
  """
  return _read(io.BytesIO(data), f"{len(data)} bytes of audio", sample_rate=sample_rate)


def decode_pcm(data: bytes) -> np.ndarray:
  """Returns int16 [A] at 16 kHz of the bytes of a sound file: what `to_pcm` makes of `decode_audio`, sooner.

  Records hold such samples themselves (FLAC, 16 bits, one channel), which need no way through floats.

  Raises:
    UserError: as `decode_audio`.
  """
  samples = _flac_samples(data)
  if samples is None:
    return to_pcm(decode_audio(data))
  waveform = samples.astype(np.float32)
  waveform *= np.float32(32767 / 32768)  # as `to_pcm` does, to the bit, without its copies
  return np.rint(waveform, out=waveform).astype(np.int16)


def _flac_samples(data: bytes) -> np.ndarray | None:
  """Returns the int16 samples of FLAC as records hold it, or None where the other decoder has to see.

  dr_flac takes half of the time of libFLAC. Where a frame's checksum is wrong it gives fewer samples than the header
  states, and does not say why.
  """
  try:
    import miniaudio
  except ImportError:  # an older environment: the same samples, later
    return None
  head = int.from_bytes(data[18:26], "big")  # of STREAMINFO: 20 bits of rate, 3 of channels, 5 of depth, 36 of length
  length = head & _FLAC_LENGTH
  if data[:4] != b"fLaC" or head >> 36 != SAMPLE_RATE << 8 | 16 - 1 or not 0 < length <= _MOST_VALUES:
    return None
  try:
    samples = np.frombuffer(miniaudio.flac_read_s16(data).samples, np.int16)
  except miniaudio.DecodeError:
    return None
  return samples if len(samples) == length else None


def load_audio(path: Path | str, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
  """Returns the waveform, float32 [A] at `sample_rate`, of a sound file of any rate and any number of channels.

  Raises:
    UserError: missing, unreadable, empty, not finite, of an impossible sample rate, or in a format that the reader
      lacks.
  """
  path = Path(path)
  if not path.is_file():
    raise UserError("no such file", where=path, rule="the audio file exists", remedy="check the path")
  return _read(path, str(path), sample_rate=sample_rate)


class SoundLength(NamedTuple):
  """How many `samples` of one channel a sound file holds, and how many there are in a second."""

  samples: int
  sample_rate: int


def sound_length(data: bytes) -> SoundLength:
  """Returns the length of the bytes of a sound file as their head states it; nothing is decoded.

  Raises:
    UserError: the bytes are no sound file.
  """
  import soundfile

  try:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
      return SoundLength(file.frames, file.samplerate)
  except (soundfile.LibsndfileError, RuntimeError) as error:
    raise _unreadable(error, f"{len(data)} bytes of audio") from error


def save_wav(path: Path | str, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
  """Writes `samples` (float [A], clipped to -1..1) as a 16-bit WAV file; the folder is made if it is not there.

  Raises:
    UserError: the file cannot be written; one that was there stays as it was.
  """
  import soundfile

  written = io.BytesIO()
  soundfile.write(written, to_pcm(samples), sample_rate, format="WAV", subtype="PCM_16")
  write_whole(Path(path), written.getvalue())


def to_pcm(waveform: np.ndarray) -> np.ndarray:
  """Returns int16 samples of a float waveform, clipped to -1..1."""
  return np.round(np.clip(np.asarray(waveform, np.float32), -1.0, 1.0) * 32767.0).astype(np.int16)


def from_pcm(samples: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
  """Returns the float32 waveform of int16 samples that `to_pcm` made, written to `out` if given."""
  return np.divide(samples, np.float32(32767), out=out)


def resample(waveform: np.ndarray, *, sample_rate: int, to: int = SAMPLE_RATE) -> np.ndarray:
  """Returns `waveform`, float32 [A] at `sample_rate`, at the rate `to`."""
  if sample_rate == to:
    return waveform
  import soxr

  return np.ascontiguousarray(soxr.resample(waveform, sample_rate, to), np.float32)


class Clip(NamedTuple):
  """A `waveform`, float32 [A], and what libsndfile calls the `format` of its file."""

  waveform: np.ndarray
  format: str


def read_clip(
  source: Path | io.BytesIO,
  *,
  where: str,
  start_seconds: float = 0.0,
  stop_seconds: float | None = None,
  max_seconds: float = float("inf"),
  sample_rate: int = SAMPLE_RATE,
) -> Clip:
  """Returns a part of a sound file of any rate and any number of channels; the rest is not decoded.

  Args:
    source: the file.
    where: its name in messages.
    start_seconds, stop_seconds: the part; by default all of it.
    max_seconds: how long the part may be.
    sample_rate: of what is returned.

  Raises:
    UserError: unreadable, cut short, empty, not finite, of an impossible sample rate, too long, or without this part.
  """
  import soundfile

  try:
    with soundfile.SoundFile(source) as file:
      _require_rate(file.samplerate, where)
      first = round(start_seconds * file.samplerate)
      last = file.frames if stop_seconds is None else round(stop_seconds * file.samplerate)
      _require_part(first, last, num_frames=file.frames, longest=max_seconds * file.samplerate, where=where)
      _require_size((last - first) * file.channels, where)
      file.seek(first)
      waveform = _mixed(file, where, most=last - first)
      stated, kind, is_cut = file.samplerate, file.format, _CUT in file.extra_info
  except (soundfile.LibsndfileError, RuntimeError) as error:
    raise _unreadable(error, where) from error
  if len(waveform) < last - first or is_cut:
    raise _unreadable("it is cut short", where)
  return Clip(resample(waveform, sample_rate=stated, to=sample_rate), kind)


_CUT = "(should be"  # libsndfile's log of a header that promises more than the file holds


def _read(source: Path | io.BytesIO, where: str, *, sample_rate: int) -> np.ndarray:
  import soundfile

  try:
    with soundfile.SoundFile(source) as file:
      _require_rate(file.samplerate, where)
      waveform, stated = _mixed(file, where), file.samplerate
  except (soundfile.LibsndfileError, RuntimeError) as error:
    raise _unreadable(error, where) from error
  return resample(waveform, sample_rate=stated, to=sample_rate)


def _mixed(file: Any, where: str, *, most: int | None = None) -> np.ndarray:
  """Returns the mean of the channels of an open sound file, of at most so many samples."""
  block = max(_BLOCK_VALUES // file.channels, 1)
  parts, left = [], file.frames if most is None else most
  while left > 0 and len(samples := file.read(min(block, left), dtype="float32", always_2d=True)):
    _require_finite(samples, where)
    parts.append(samples.mean(axis=1))
    left -= len(samples)
  if not parts:
    raise UserError("no samples", where=where, rule="a recording holds at least one sample", remedy="record it again")
  return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _unreadable(what: object, where: str) -> UserError:
  return UserError(
    f"cannot read audio: {what}",
    where=where,
    rule="audio is WAV, FLAC, OGG or another format of libsndfile, not cut short",
    remedy="convert the recording to WAV or FLAC",
  )


def _require_rate(sample_rate: int, where: str) -> None:
  if not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
    raise UserError(
      f"sample rate {sample_rate} Hz",
      where=where,
      rule=f"the sample rate lies within {_LOWEST_RATE}..{_HIGHEST_RATE} Hz",
      remedy="the header is damaged or wrong; write the file again with its true rate",
    )


def _require_part(first: int, last: int, *, num_frames: int, longest: float, where: str) -> None:
  if not 0 <= first < last <= num_frames:
    raise UserError(
      f"samples {first} to {last} of {num_frames}",
      where=where,
      rule="a part begins before it ends, within its recording, and holds samples",
      remedy="correct the times, or leave it out",
    )
  if last - first > longest:
    raise UserError(
      f"{last - first} samples",
      where=where,
      rule=f"at most {longest:.0f} samples at this rate",
      remedy="cut it in pieces, or raise the limit of seconds",
    )


def _require_size(values: int, where: str) -> None:
  if values > _MOST_VALUES:
    raise UserError(
      f"{values} samples in all channels",
      where=where,
      rule=f"at most {_MOST_VALUES}",
      remedy="cut the recording, or mix its channels down",
    )


def _require_finite(samples: np.ndarray, where: str) -> None:
  if not np.isfinite(samples).all():
    raise UserError(
      "samples that are not numbers", where=where, rule="samples are finite", remedy="export the recording again"
    )
