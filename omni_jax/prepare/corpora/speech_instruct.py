"""SpeechInstruct (SpeechGPT, arXiv 2305.11000): one JSON object for each line, units of mHuBERT in the text.

    cross-modal         [Human]: request This is input: <sosp><12><7><eosp><eoh> [SpeechGPT]: words<eoa>
                        the other way round for synthesis; also plain dialogues of text
    chain of modality   [Human]: <sosp>..<eosp><eoh>. [SpeechGPT]: words; [ta] answer; [ua] <sosp>..<eosp><eoa>.

The text is in `plain_text`; `prefix` is the same system text in every line and is left out.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.conversations import in_range
from omni_jax.prepare.corpora.entries import Entry, require_text
from omni_jax.prepare.corpora.lines import json_at, lines
from omni_jax.prepare.schema import Example, Turn

_TURN = re.compile(r"\[Human\]\s*:\s*(.*?)<eoh>\.?\s*\[SpeechGPT\]\s*:\s*(.*?)<eoa>\.?\s*", re.DOTALL)
_UNITS = re.compile(r"<sosp>((?:\s*<\d+>)*)\s*<eosp>")
_CHAIN = re.compile(r"(?:\[tq\]\s*)?(.*?);?\s*\[ta\]\s*(.*?);?\s*\[ua\]\s*(.*)", re.DOTALL)
_INPUT = "This is input:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechInstruct:
  """The lines of one file.

  Attributes:
    file: `SpeechInstruct_cross_modal.jsonl` or `SpeechInstruct_chain_of_modality.jsonl`.
    task: only records of this task, `speech`, `text` or `dialogue`; empty: all.
    num_units: units are below it.
  """

  file: Path
  task: str = ""
  num_units: int = 1000

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each line."""
    for line in lines(self.file):
      if self.task and self.task != _task_of(line.text):
        continue
      yield Entry(f"{self.file.stem}/{line.number}", (line.start, line.size), line.reason)

  def read(self, entry: Entry) -> Example:
    """Returns the utterance, the spoken dialogue or the written dialogue of a line."""
    start, size = entry.at
    fields = json_at(self.file, start=start, size=size)
    text = require_text(fields.get("plain_text") if isinstance(fields, dict) else None, where=entry.id)
    pairs = [(match[1].strip(), match[2].strip()) for match in _TURN.finditer(text)]
    if not pairs or _TURN.sub("", text).strip():
      raise _wrong("no turns of [Human] and [SpeechGPT]", entry.id)
    if not _UNITS.search(text):
      return self._text(pairs, entry.id)
    if len(pairs) != 1:
      raise _wrong(f"{len(pairs)} exchanges with speech", entry.id)
    return self._speech(*pairs[0], id=entry.id)

  def _text(self, pairs: list[tuple[str, str]], id: str) -> Example:
    turns = [
      Turn(role, require_text(text, where=id)) for pair in pairs for role, text in zip(_ROLES, pair, strict=True)
    ]
    return Example(id, "text", tuple(turns))

  def _speech(self, asked: str, answered: str, *, id: str) -> Example:
    chain = _CHAIN.fullmatch(answered)
    if chain:
      heard, reply = (require_text(chain[place], where=id) for place in (1, 2))
      user = Turn("user", heard, units=self._units(asked, id))
      return Example(id, "dialogue", (user, Turn("assistant", reply, units=self._units(chain[3], id))))
    said, text = (asked, answered) if _UNITS.search(asked) else (answered, asked.rpartition(_INPUT)[2])
    if _UNITS.search(text):
      raise _wrong("units on both sides without [ta] and [ua]", id)
    return Example(id, "speech", (Turn("user", require_text(text, where=id), units=self._units(said, id)),))

  def _units(self, text: str, where: str) -> list[int]:
    found = _UNITS.findall(text)
    if len(found) != 1:
      raise _wrong(f"{len(found)} runs of units in one turn", where)
    return in_range(re.findall(r"\d+", found[0]), num_units=self.num_units, where=where)


def _task_of(line: str) -> str:
  """Returns what a line will be, without parsing it."""
  return "text" if "<sosp>" not in line else "dialogue" if "[ua]" in line else "speech"


_ROLES = ("user", "assistant")


def _wrong(what: str, where: str) -> UserError:
  return UserError(
    what, where=where, rule="[Human]: ...<eoh> [SpeechGPT]: ...<eoa>, speech as <sosp>..<eosp>", remedy="leave it out"
  )
