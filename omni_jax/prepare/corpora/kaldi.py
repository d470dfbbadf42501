"""A Kaldi data folder (kaldi-asr.org/doc/data_prep.html): tables of one line for each utterance or recording.

    wav.scp     R1 audio/R1.wav              recording -> file (commands that end with | are refused: data runs no code)
    text        U1 THE GARDEN IS GREEN       utterance -> words
    segments    U1 R1 0.50 2.25              optional: utterance -> recording, start and end in seconds
    utt2spk     U1 S1                        optional: utterance -> speaker

The tables of recordings, speakers and segments are held in memory: about 200 bytes for each line.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, require_folder, require_text
from omni_jax.prepare.corpora.lines import pairs
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kaldi:
  """The utterances of `text`, in its order.

  Attributes:
    root: the data folder.
    audio: the folder that all sound lies in; by default `root`.
    limits: what is accepted.
  """

  root: Path
  audio: Path | None = None
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each line of `text`."""
    root = require_folder(self.root, holds="wav.scp and text")
    files = _table(root / "wav.scp")
    speakers = _table(root / "utt2spk") if (root / "utt2spk").is_file() else {}
    segments = _table(root / "segments") if (root / "segments").is_file() else None
    for name, text, line in pairs(root / "text"):
      recording, reason = name, line.reason
      start, stop = 0.0, None
      if segments is not None and not reason:
        recording, start, stop, reason = _segment(segments.get(name, ""))
      file = files.get(recording, "")
      if not reason and not file:
        reason = f"recording {recording!r} is not in wav.scp"
      if not reason and file.endswith("|"):
        reason = f"wav.scp holds a command, which is not run: {file:.80}"
      yield Entry(name, (file, text, start, stop, speakers.get(name, "")), reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance, cut from its recording where there are segments."""
    file, text, start, stop, speaker = entry.at
    words = require_text(text, where=entry.id)
    return utterance(
      entry.id,
      inside(self.audio or self.root, file),
      text=words,
      limits=self.limits,
      voice=f"kaldi:{speaker}" if speaker else "",
      start_seconds=start,
      stop_seconds=stop,
    )


def _table(path: Path) -> dict[str, str]:
  """Returns a table; an undecodable line, which belongs to no key, is refused."""
  table = {}
  for key, value, line in pairs(path):
    if line.reason:
      raise UserError(line.reason, where=f"{path}, line {line.number}", rule="tables are UTF-8", remedy="convert it")
    if key in table:
      raise UserError(
        f"{key!r} occurs twice", where=f"{path}, line {line.number}", rule="keys are unique", remedy="remove one"
      )
    table[key] = value
  return table


def _segment(fields: str) -> tuple[str, float, float | None, str]:
  """Returns recording, start and end of a line of `segments`, and what is wrong with it."""
  parts = fields.split()
  try:
    recording, start, stop = parts[0], float(parts[1]), float(parts[2])
  except (IndexError, ValueError):
    return "", 0.0, None, f"no line of segments, or a damaged one: {fields!r:.80}"
  if not (math.isfinite(start) and math.isfinite(stop)):
    return "", 0.0, None, f"times of segments are numbers: {fields!r:.80}"
  return recording, start, None if stop < 0 else stop, ""  # -1: to the end
