"""LibriSpeech (openslr.org/12) and its likes: folders `speaker/chapter` with FLAC files and one list of transcripts.

train-clean-100/103/1240/103-1240.trans.txt     103-1240-0000 CHAPTER ONE MISSUS RACHEL LYNDE IS SURPRISED
train-clean-100/103/1240/103-1240-0000.flac
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, require_folder, require_some, require_text
from omni_jax.prepare.corpora.lines import pairs
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example

_LIST = ".trans.txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LibriSpeech:
  """Every utterance below `root`, in the order of the paths: the whole corpus or any folder of it."""

  root: Path
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each line of the lists of transcripts."""
    root = require_folder(self.root, holds="LibriSpeech, or a part of it such as train-clean-100")
    found = sorted(root.rglob(f"*{_LIST}"))
    for path in require_some(found, where=root, rule=f"lists of transcripts end with {_LIST}"):
      folder = str(path.parent.relative_to(root))
      for name, text, line in pairs(path):
        yield Entry(name, (folder, text), line.reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance; its voice is that of the speaker."""
    folder, text = entry.at
    words = require_text(text, where=entry.id)
    path = inside(self.root, f"{folder}/{entry.id}.flac")
    return utterance(entry.id, path, text=words, limits=self.limits, voice=f"librispeech:{entry.id.partition('-')[0]}")
