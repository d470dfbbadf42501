"""Any folder of sound files, at any depth; words in a text file of the same name, where there is one.

a/1.wav   a/1.txt         an utterance and its words
a/2.flac                  a recording that nobody wrote down
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, files_below, inside
from omni_jax.prepare.corpora.lines import MAX_BYTES, read_at
from omni_jax.prepare.corpora.sound import ENDINGS
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example

_WORDS = (".txt", ".lab")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundFolder:
  """Every sound file below `root` in the order of the paths; its id is its path without the ending."""

  root: Path
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields an entry for each sound file."""
    return files_below(self.root, ENDINGS, holds="sound files")

  def read(self, entry: Entry) -> Example:
    """Returns the utterance."""
    (name,) = entry.at
    path = inside(self.root, name)
    texts = [path.with_suffix(ending) for ending in _WORDS if path.with_suffix(ending).is_file()]
    text = read_at(texts[0], start=0, size=MAX_BYTES) if texts else ""
    return utterance(entry.id, path, text=text, limits=self.limits)
