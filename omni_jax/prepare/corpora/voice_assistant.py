"""VoiceAssistant-400K (Mini-Omni, arXiv 2408.16725): spoken questions, written answers and their SNAC codes, parquet.

    split_name, index, round, question, question_audio {bytes, path}, answer, answer_snac "# 2178 3244 ... # 1158 ..."

A frame is a `#` and seven codes in the order in which Mini-Omni speaks them (a slow code before the faster ones it
covers, as `speech/snac.py` gives them); they are stored one frame after another.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.conversations import in_range
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, name_below, require_text
from omni_jax.prepare.corpora.sound import read_speech
from omni_jax.prepare.corpora.tables import parquet_files, row, rows
from omni_jax.prepare.schema import Example, Turn

CODES_PER_FRAME = 7
NUM_CODES = 4096
_NAMES = ("split_name", "index", "round")
_COLUMNS = ("question", "question_audio", "answer", "answer_snac")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoiceAssistant:
  """The rounds of the tables below `path`, each a spoken dialogue of one question and its answer."""

  path: Path
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each row."""
    for path in parquet_files(self.path):
      for group, place, values in rows(path, columns=_NAMES, needs=_COLUMNS):
        yield Entry("/".join(str(values[name]) for name in _NAMES), (name_below(self.path, path), group, place))

  def read(self, entry: Entry) -> Example:
    """Returns the dialogue: the sound of the question, the codes of the answer."""
    name, group, place = entry.at
    values = row(self.path / name, group=group, place=place, columns=_COLUMNS)
    sound = values["question_audio"] or {}
    if not isinstance(sound.get("bytes"), bytes):
      raise UserError("no sound", where=entry.id, rule="question_audio holds bytes", remedy="fetch the table again")
    audio = read_speech(sound["bytes"], limits=self.limits)
    question, answer = (require_text(values[field], where=entry.id) for field in ("question", "answer"))
    turns = (Turn("user", question, audio=audio), Turn("assistant", answer, units=_codes(values["answer_snac"], entry)))
    return Example(entry.id, "dialogue", turns)


def _codes(text: Any, entry: Entry) -> list[int]:
  frames = [frame.split() for frame in str(text or "").split("#")[1:]]
  if not frames or any(len(frame) != CODES_PER_FRAME for frame in frames) or str(text).split("#")[0].strip():
    raise _wrong(f"answer_snac {str(text)!r:.60}", entry)
  return in_range([code for frame in frames for code in frame], num_units=NUM_CODES, where=entry.id)


def _wrong(what: str, entry: Entry) -> UserError:
  return UserError(
    what, where=entry.id, rule=f"each frame is a # and {CODES_PER_FRAME} codes", remedy="leave the row out"
  )
