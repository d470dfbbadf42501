"""LJSpeech (keithito.com/LJ-Speech-Dataset) and corpora in its layout: one speaker, a table and a folder of WAV files.

metadata.csv            LJ001-0001|Printing, in the 1 sense|Printing, in the one sense
wavs/LJ001-0001.wav
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, require_folder, require_text
from omni_jax.prepare.corpora.lines import lines
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class LJSpeech:
  """The lines of `metadata.csv`; the text is its last column, with numbers written out."""

  root: Path
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each line."""
    path = require_folder(self.root, holds="metadata.csv and wavs/") / "metadata.csv"
    for line in lines(path):
      columns = line.text.split("|")
      reason = line.reason or ("" if len(columns) in (2, 3) else f"{len(columns)} columns instead of 3")
      name = f"{path.name}:{line.number}" if reason else columns[0]
      yield Entry(name, (columns[-1],), reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance."""
    (text,) = entry.at
    words = require_text(text, where=entry.id)
    path = inside(self.root, f"wavs/{entry.id}.wav")
    return utterance(entry.id, path, text=words, limits=self.limits, voice=f"ljspeech:{self.root.resolve().name}")
