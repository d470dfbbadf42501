"""Conversations of LLaVA's kind -> turns, units out of the text; the rows of EMOVA's releases are of this kind too.

    {"from": "human", "value": "<image>\nwhat is this"}   {"from": "gpt", "value": "a dog"}

Speech stands in the text as EMOVA's unit strings, `<|speech_12|><|speech_7|>`, and is stored as ids:

    human: request + units          gpt: text           -> speech (recognition)
    human: request, line, text      gpt: units          -> speech (synthesis)
    human: request + units          gpt: JSON answer    -> dialogue, with the words, emotions and pitches of both
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.core.styles import EMOTIONS, PITCHES, Style
from omni_jax.prepare.corpora.entries import require_text
from omni_jax.prepare.schema import Example, Turn

NUM_UNITS = 4096  # of EMOVA's tokenizer
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_IMAGE = "<image>"
_UNITS = re.compile(r"(?:<\|speech_\d+\|>)+")
_NUMBER = re.compile(r"\d+")
# EMOVA's seven emotions as its evaluation folds them into four.
_FOLDED = {"surprised": "happy", "fearful": "sad", "disgusted": "angry"}
_ASKED, _ANSWERED = "user question", "assistant response"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """How conversations are read.

  Attributes:
    image_task: task of a record with an image and no speech: `visual_question` or `caption`.
    gender: that of the voice of spoken answers, which EMOVA's rows do not say; its own default is female.
    num_units: units are below it.
  """

  image_task: str = "visual_question"
  gender: str = "female"
  num_units: int = NUM_UNITS


READING = Reading()


def example_of(id: str, conversation: Any, *, image: bytes, reading: Reading) -> Example:
  """Returns the record of a conversation.

  Raises:
    UserError: it is empty, its roles are out of order, it has no or several places for its image, a turn is empty, or
      a unit is out of range.
  """
  pairs = _pairs(conversation, where=id)
  images = sum(text.count(_IMAGE) for pair in pairs for text in pair)
  if images > 1 or (images and not image):
    raise _wrong(f"{images} places for {'one image' if image else 'no image'}", id, "one <image> for each image")
  pairs = [(_without_image(asked), answered) for asked, answered in pairs]
  has_units = any(_UNITS.search(text) for pair in pairs for text in pair)
  if not has_units:
    turns = [turn for asked, answered in pairs for turn in _written(asked, answered, bool(image), id)]
    return Example(id, reading.image_task if image else "text", tuple(turns), image)
  if len(pairs) == 1 and not _is_spoken_answer(pairs[0][1]) and not image:
    return Example(id, "speech", (_utterance(*pairs[0], id=id, reading=reading),))
  turns = [turn for asked, answered in pairs for turn in _spoken(asked, answered, id=id, reading=reading)]
  return Example(id, "spoken_visual_question" if image else "dialogue", tuple(turns), image)


def _pairs(conversation: Any, *, where: str) -> list[tuple[str, str]]:
  """Returns questions and answers."""
  if isinstance(conversation, str):
    try:
      conversation = json.loads(conversation)
    except (ValueError, RecursionError) as error:
      raise _wrong(f"conversations that are no JSON: {error}", where, "a list of turns") from error
  if isinstance(conversation, dict) and all(isinstance(column, list) for column in conversation.values()):
    lengths = {len(column) for column in conversation.values()}  # a `Sequence` of the datasets package: columns
    rows = range(lengths.pop()) if len(lengths) == 1 else ()
    conversation = [{name: column[row] for name, column in conversation.items()} for row in rows]
  if not isinstance(conversation, Sequence) or not conversation:
    raise _wrong("an empty conversation", where, "a conversation has turns")
  if not all(isinstance(turn, dict) for turn in conversation):
    raise _wrong("a turn that is no object", where, "a turn has from and value")
  roles = [_ROLES.get(str(turn.get("from", turn.get("role"))), "") for turn in conversation]
  if len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
    told = ", ".join(str(turn.get("from", turn.get("role"))) for turn in conversation[:6])
    raise _wrong(f"roles {told}", where, "human and gpt take turns, human first, gpt last")
  texts = [_value(turn, where) for turn in conversation]
  return list(zip(texts[0::2], texts[1::2], strict=True))


def _value(turn: dict[str, Any], where: str) -> str:
  """Returns the text of a turn; with `re_encode` it is spelt in ASCII escapes."""
  value = turn.get("value", turn.get("content"))
  if not isinstance(value, str):
    raise _wrong(f"a value that is no text: {value!r:.80}", where, "a turn has from and value")
  if turn.get("re_encode"):
    try:
      # Escapes may spell characters in two halves, as JSON does.
      value = value.encode("ascii").decode("unicode_escape").encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError as error:
      raise _wrong(f"re_encode: {error}", where, "the value is ASCII with escapes") from error
  return value


def _without_image(text: str) -> str:
  return text.replace(_IMAGE, "").strip()


def _written(asked: str, answered: str, may_be_silent: bool, where: str) -> list[Turn]:
  if not may_be_silent:
    require_text(asked, where=where)
  return [Turn("user", asked), Turn("assistant", require_text(answered, where=where))]


def _utterance(asked: str, answered: str, *, id: str, reading: Reading) -> Turn:
  """Returns the one turn of a recognition or a synthesis row."""
  if _UNITS.search(asked):
    text, units = answered, _units(asked, id, reading)
  else:
    text, units = asked.partition("\n")[2] or asked, _units(answered, id, reading)  # the request is the first line
  return Turn("user", require_text(text, where=id), units=units)


def _is_spoken_answer(text: str) -> bool:
  return text.lstrip().startswith("{")


def _spoken(asked: str, answered: str, *, id: str, reading: Reading) -> list[Turn]:
  """Returns both turns of an exchange whose answer is EMOVA's JSON."""
  try:
    answer = json.loads(answered)
    fields = {name: answer[name] for name in (f"{_ASKED} text", f"{_ANSWERED} text", f"{_ANSWERED} speech")}
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise _wrong(f"a spoken answer that is not EMOVA's JSON: {error!r:.80}", id, "texts, styles and speech") from error
  heard, style = (_style(answer, who, id, reading) for who in (_ASKED, _ANSWERED))
  question, reply, speech = (require_text(value, where=id) for value in fields.values())
  return [
    Turn("user", question, units=_units(asked, id, reading), heard=heard),
    Turn("assistant", reply, units=_units(speech, id, reading), style=style),
  ]


def _style(answer: dict[str, Any], who: str, where: str, reading: Reading) -> str:
  emotion, pitch = (str(answer.get(f"{who} {name}", "")).strip().lower() for name in ("emotion", "pitch"))
  emotion = _FOLDED.get(emotion, emotion)
  if emotion not in EMOTIONS or pitch not in PITCHES:
    raise _wrong(f"{who}: emotion {emotion!r}, pitch {pitch!r}", where, "emotions and pitches are EMOVA's")
  return str(Style(reading.gender, emotion, pitch))


def _units(text: str, where: str, reading: Reading) -> list[int]:
  """Returns the ids of the one run of units in a text."""
  found = _UNITS.findall(text)
  if len(found) != 1:
    raise _wrong(f"{len(found)} runs of units in one turn", where, "a spoken turn has one")
  return in_range(_NUMBER.findall(found[0]), num_units=reading.num_units, where=where)


def in_range(written: Sequence[str], *, num_units: int, where: object) -> list[int]:
  """Returns the units that are written, all of them within 0..`num_units` - 1.

  Raises:
    UserError: one is not, or is no number, or there is none.
  """
  try:
    units = [int(unit) for unit in written]
  except ValueError as error:  # also of a number with thousands of digits
    raise _wrong(f"a unit that is no number: {error}", where, f"units are within 0..{num_units - 1}") from error
  wrong = [unit for unit in units if not 0 <= unit < num_units]
  if wrong or not units:
    what = f"unit {wrong[0]}" if wrong else "no units"
    raise _wrong(what, where, f"units are within 0..{num_units - 1}")
  return units


def _wrong(what: str, where: object, rule: str) -> UserError:
  return UserError(what, where=where, rule=rule, remedy="repair the record, or leave it out")
