"""A recording with its transcript as a record: what all readers of speech corpora end in."""

from pathlib import Path

from omni_jax.prepare.corpora.entries import Limits
from omni_jax.prepare.corpora.sound import read_speech
from omni_jax.prepare.corpora.words import spoken_words
from omni_jax.prepare.schema import Example, Turn


def utterance(
  id: str,
  audio: Path | bytes,
  *,
  text: str,
  limits: Limits,
  voice: str = "",
  name: str = "",
  start_seconds: float = 0.0,
  stop_seconds: float | None = None,
) -> Example:
  """Returns the record of one utterance.

  Args:
    id: of the record.
    audio: a sound file, or its bytes.
    text: what is said, in any spelling; empty where nobody wrote it down, which makes a `recording`.
    limits: what is accepted.
    voice: `corpus:speaker`.
    name: of the file, where only its bytes are here.
    start_seconds, stop_seconds: the part of the recording; by default all.

  Raises:
    UserError: the sound cannot be used, or a transcript holds no words.
  """
  words = spoken_words(text, where=id) if text.strip() else ""
  flac = read_speech(audio, name=name, limits=limits, start_seconds=start_seconds, stop_seconds=stop_seconds)
  return Example(id, "speech" if words else "recording", (Turn("user", words, audio=flac, voice=voice),))
