"""Common Voice (commonvoice.mozilla.org): a table for each part and a folder of MP3 clips, for each language.

validated.tsv           client_id <tab> path <tab> sentence <tab> up_votes ...      (columns are found by their names)
clips/common_voice_en_1.mp3
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, require_folder, require_text
from omni_jax.prepare.corpora.lines import lines
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example

_COLUMNS = ("client_id", "path", "sentence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonVoice:
  """The clips that a table lists.

  Attributes:
    root: the folder of a language, such as `cv-corpus-17.0/en`.
    part: the table without its ending: `train`, `dev`, `test`, `validated`, ...
    limits: what is accepted.
  """

  root: Path
  part: str = "train"
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each line of the table."""
    path = require_folder(self.root, holds="one language of Common Voice") / f"{self.part}.tsv"
    places = None
    for line in lines(path):
      fields = line.text.split("\t")
      if places is None:
        places = _places(fields, path)
        continue
      reason = line.reason or ("" if len(fields) > max(places) else f"{len(fields)} columns")
      speaker, clip, sentence = ("", "", "") if reason else (fields[place] for place in places)
      name = clip.rpartition(".")[0] or f"{path.name}:{line.number}"
      yield Entry(name, (clip, sentence, speaker), reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance; its voice is the start of its speaker's key."""
    clip, sentence, speaker = entry.at
    words = require_text(sentence, where=entry.id)
    path = inside(self.root / "clips", clip)
    return utterance(entry.id, path, text=words, limits=self.limits, voice=f"common_voice:{speaker[:16]}")


def _places(header: list[str], path: Path) -> tuple[int, ...]:
  missing = [name for name in _COLUMNS if name not in header]
  if missing:
    raise UserError(
      f"no column {', '.join(missing)}", where=path, rule="the first line names the columns", remedy="fetch it again"
    )
  return tuple(header.index(name) for name in _COLUMNS)
