"""Recordings of public corpora -> FLAC of 16 kHz, or a reason; nothing is decoded before its length is known."""

import io
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import SAMPLE_RATE, encode_flac, read_clip
from omni_jax.prepare.corpora.entries import Limits

# What libsndfile calls the content of a file with this ending.
_FORMATS = {
  ".wav": ("WAV", "WAVEX", "RF64"),
  ".flac": ("FLAC", "OGG"),
  ".ogg": ("OGG",),
  ".opus": ("OGG",),
  ".oga": ("OGG",),
  ".mp3": ("MPEG", "MP3"),
  ".aiff": ("AIFF",),
  ".aif": ("AIFF",),
}
ENDINGS = tuple(_FORMATS)


def read_speech(
  source: Path | bytes, *, name: str = "", limits: Limits, start_seconds: float = 0.0, stop_seconds: float | None = None
) -> bytes:
  """Returns a recording, or a part of it, as FLAC with one channel at 16 kHz.

  Args:
    source: a file, or its bytes.
    name: of the file, where only its bytes are here; empty if it has none.
    limits: what is accepted.
    start_seconds, stop_seconds: the part; by default all.

  Raises:
    UserError: no sound, cut short, silent samples that are not numbers, too long or short, or of another format than
      its name says.
  """
  name = name or (source.name if isinstance(source, Path) else "")
  where = str(source) if isinstance(source, Path) else name or f"{len(source)} bytes of audio"
  if isinstance(source, bytes) and len(source) > limits.max_bytes:
    raise UserError(
      f"{len(source)} bytes", where=where, rule=f"at most {limits.max_bytes} bytes", remedy="cut it in pieces"
    )
  clip = read_clip(
    source if isinstance(source, Path) else io.BytesIO(source),
    where=where,
    start_seconds=start_seconds,
    stop_seconds=stop_seconds,
    max_seconds=limits.max_seconds,
  )
  expected = _FORMATS.get(Path(name).suffix.lower())
  if expected and clip.format not in expected and not limits.any_name:
    raise UserError(
      f"the content is {clip.format}",
      where=where,
      rule=f"a file that ends with {Path(name).suffix} is {' or '.join(expected)}",
      remedy="rename it, or allow any name",
    )
  if len(clip.waveform) < limits.min_seconds * SAMPLE_RATE:
    raise UserError(
      f"{len(clip.waveform) / SAMPLE_RATE:.3f} seconds",
      where=where,
      rule=f"a recording lasts at least {limits.min_seconds} seconds",
      remedy="leave it out",
    )
  return encode_flac(clip.waveform)
