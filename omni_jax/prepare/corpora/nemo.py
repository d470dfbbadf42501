"""NeMo manifests (docs.nvidia.com/nemo-framework, ASR datasets): one JSON object for each utterance and line.

    {"audio_filepath": "audio/1.wav", "duration": 2.5, "text": "the garden is green", "offset": 0.0}

`offset` (seconds) and `speaker` are optional; without `offset`, `duration` only has to be a number.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, require_text
from omni_jax.prepare.corpora.lines import json_at, lines
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nemo:
  """The utterances of a manifest; their ids are its name and their line.

  Attributes:
    manifest: the file.
    audio: the folder that all sound lies in; by default that of the manifest.
    limits: what is accepted.
  """

  manifest: Path
  audio: Path | None = None
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each line."""
    for line in lines(self.manifest):
      yield Entry(f"{self.manifest.stem}/{line.number}", (line.start, line.size), line.reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance."""
    start, size = entry.at
    fields = json_at(self.manifest, start=start, size=size)
    if not isinstance(fields, dict) or not isinstance(fields.get("audio_filepath"), str):
      raise _wrong("no audio_filepath", entry)
    path = inside(self.audio or self.manifest.parent, fields["audio_filepath"])
    offset, stop = fields.get("offset"), None
    if offset is not None:
      duration = fields.get("duration")
      if not (_is_time(offset) and _is_time(duration)):
        raise _wrong(f"offset {offset!r}, duration {duration!r}", entry)
      stop = offset + duration
    return utterance(
      entry.id,
      path,
      text=require_text(fields.get("text"), where=entry.id),
      limits=self.limits,
      voice=f"nemo:{fields['speaker']}" if fields.get("speaker") else "",
      start_seconds=offset or 0.0,
      stop_seconds=stop,
    )


def _is_time(value: object) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _wrong(what: str, entry: Entry) -> UserError:
  return UserError(
    what, where=entry.id, rule="audio_filepath, text, and seconds where there is an offset", remedy="repair the line"
  )
