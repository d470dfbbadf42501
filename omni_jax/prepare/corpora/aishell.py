"""AISHELL-1 (openslr.org/33) and AISHELL-2: Mandarin, one list of transcripts, WAV files in folders of speakers.

    AISHELL-1   data_aishell/transcript/aishell_transcript_v0.8.txt     BAC009S0002W0122 而 对 楼市 成交 抑制 作用
                data_aishell/wav/train/S0002/BAC009S0002W0122.wav
    AISHELL-2   iOS/data/trans.txt                                      IC0001W0001<tab>厨房用品
                iOS/data/wav.scp                                        IC0001W0001<tab>wav/C0001/IC0001W0001.wav

Some hundred recordings of AISHELL-1 have no transcript: they are put aside.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, inside, require_folder, require_some, require_text
from omni_jax.prepare.corpora.lines import pairs
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example

_SECOND = "trans.txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aishell:
  """The recordings of one part in the order of the paths.

  Attributes:
    root: `data_aishell`, or `iOS/data` of AISHELL-2.
    part: `train`, `dev` or `test` of AISHELL-1; empty for all recordings.
    limits: what is accepted.
  """

  root: Path
  part: str = ""
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each recording."""
    root = require_folder(self.root, holds="AISHELL")
    texts = {name: (text, line.reason) for name, text, line in pairs(_transcripts(root))}
    wav = require_folder(root / "wav" / self.part, holds="one folder for each speaker")
    found = sorted(wav.rglob("*.wav"))
    for path in require_some(found, where=wav, rule="recordings end with .wav"):
      text, reason = texts.get(path.stem, ("", "no transcript"))
      yield Entry(path.stem, (str(path.relative_to(root)), text), reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance, its text without spaces; its voice is that of the speaker's folder."""
    name, text = entry.at
    words = require_text(text, where=entry.id)
    speaker = Path(name).parent.name
    return utterance(entry.id, inside(self.root, name), text=words, limits=self.limits, voice=f"aishell:{speaker}")


def _transcripts(root: Path) -> Path:
  found = sorted((root / "transcript").glob("aishell_transcript*.txt")) or [root / _SECOND]
  if not found[0].is_file():
    raise UserError(
      "no transcripts",
      where=root,
      rule=f"transcript/aishell_transcript_v0.8.txt (AISHELL-1) or {_SECOND} (AISHELL-2)",
      remedy="name the folder data_aishell, or iOS/data",
    )
  return found[0]
