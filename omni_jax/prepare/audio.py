"""Sound in and out: every waveform in the project is float32, one channel, within -1..1, and at 16 kHz if nothing else
is said.

Files of any common format are read by libsndfile a minute at a time, so that an hour of stereo takes little more memory
than its one channel; they are resampled by soxr. Corpora hold FLAC bytes.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError

SAMPLE_RATE = 16000
_LOWEST_RATE, _HIGHEST_RATE = 4000, 384000
_BLOCK_SECONDS = 60
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


def save_wav(path: Path | str, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
  """Writes `samples` (float [A], clipped to -1..1) as a 16-bit WAV file; the folder is made if it is not there."""
  import soundfile

  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, to_pcm(samples), sample_rate, format="WAV", subtype="PCM_16")


def to_pcm(waveform: np.ndarray) -> np.ndarray:
  """Returns int16 samples of a float waveform, clipped to -1..1."""
  return np.round(np.clip(np.asarray(waveform, np.float32), -1.0, 1.0) * 32767.0).astype(np.int16)


def resample(waveform: np.ndarray, *, sample_rate: int, to: int = SAMPLE_RATE) -> np.ndarray:
  """Returns `waveform`, float32 [A] at `sample_rate`, at the rate `to`."""
  if sample_rate == to:
    return waveform
  import soxr

  return np.ascontiguousarray(soxr.resample(waveform, sample_rate, to), np.float32)


def _read(source: Path | io.BytesIO, where: str, *, sample_rate: int) -> np.ndarray:
  import soundfile

  try:
    with soundfile.SoundFile(source) as file:
      stated = file.samplerate
      waveform = _mixed(file, where) if _LOWEST_RATE <= stated <= _HIGHEST_RATE else None
  except (soundfile.LibsndfileError, RuntimeError) as error:
    raise UserError(
      f"cannot read audio: {error}",
      where=where,
      rule="audio is WAV, FLAC, OGG or another format of libsndfile, not cut short",
      remedy="convert the recording to WAV or FLAC",
    ) from error
  if waveform is None:
    raise UserError(
      f"sample rate {stated} Hz",
      where=where,
      rule=f"the sample rate lies within {_LOWEST_RATE}..{_HIGHEST_RATE} Hz",
      remedy="the header is damaged or wrong; write the file again with its true rate",
    )
  if not len(waveform):
    raise UserError("no samples", where=where, rule="a recording holds at least one sample", remedy="record it again")
  return resample(waveform, sample_rate=stated, to=sample_rate)


def _mixed(file: Any, where: str) -> np.ndarray:
  """Returns the mean of the channels of an open sound file."""
  parts = [np.zeros(0, np.float32)]
  while len(block := file.read(_BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
    if not np.isfinite(block).all():
      raise UserError(
        "samples that are not numbers", where=where, rule="samples are finite", remedy="export the recording again"
      )
    parts.append(block.mean(axis=1))
  return np.concatenate(parts)
