"""Sound in and out: every waveform in the project is float32, one channel, 16 kHz, within -1..1.

Files of any common format are read by libsndfile and resampled by soxr; corpora hold FLAC bytes.
"""

import io
from pathlib import Path

import numpy as np

from omni_jax.core.errors import UserError

SAMPLE_RATE = 16000
_LOWEST_RATE, _HIGHEST_RATE = 4000, 384000
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


def load_audio(path: Path | str) -> np.ndarray:
  """Returns the waveform, float32 [A] at 16 kHz, of a sound file of any rate and any number of channels.

  Raises:
    UserError: missing, unreadable, empty, not finite, or of an impossible sample rate.
  """
  path = Path(path)
  if not path.is_file():
    raise UserError("no such file", where=path, rule="the audio file exists", remedy="check the path")
  return _read(path, str(path), sample_rate=SAMPLE_RATE)


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
    samples, own_rate = soundfile.read(source, dtype="float32", always_2d=True)
  except (soundfile.LibsndfileError, RuntimeError) as error:
    raise UserError(
      f"cannot read audio: {error}",
      where=where,
      rule="audio is WAV, FLAC, OGG or another format of libsndfile, not cut short",
      remedy="convert the recording to WAV or FLAC",
    ) from error
  if not _LOWEST_RATE <= own_rate <= _HIGHEST_RATE:
    raise UserError(
      f"sample rate {own_rate} Hz",
      where=where,
      rule=f"the sample rate lies within {_LOWEST_RATE}..{_HIGHEST_RATE} Hz",
      remedy="the header is damaged or wrong; write the file again with its true rate",
    )
  if not len(samples):
    raise UserError("no samples", where=where, rule="a recording holds at least one sample", remedy="record it again")
  if not np.isfinite(samples).all():
    raise UserError(
      "samples that are not numbers", where=where, rule="samples are finite", remedy="export the recording again"
    )
  return resample(samples.mean(axis=1), sample_rate=own_rate, to=sample_rate)
