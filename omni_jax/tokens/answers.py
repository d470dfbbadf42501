"""How a reply is laid out in ids, and read back. Two layouts of the same reply.

Native (ours): the style first, so that a vocoder can start at once; then what was heard; then text and units in turns,
so that sound does not wait for the end of the text.

    gender emotion pitch <|heard|> what the user said <|answer|> t t t t u u u u u u u u u u u u t t u u u ... u u

JSON (EMOVA's chain of modality, arXiv 2409.18042): one object whose keys come in a fixed order, the units last. Its
prompt names seven emotions where this project has four, so three of them are read as their nearest (EMOVA's own scoring
does so, emova/eval/extract_speech_json.py), and it may name a speed.

Reading never fails: an answer that breaks the layout is repaired as far as it goes and says in `problem` what was
wrong, so that a strict caller counts it as a failure and a conversation goes on.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.tokens.styles import NUM_STYLE_TOKENS, decode_style, encode_style
from omni_jax.tokens.text import Segment, TextTokenizer, encode_segments
from omni_jax.tokens.vocabulary import STYLE, UNIT, Vocabulary

NORMAL, SPEEDS = "normal", ("slow", "normal", "fast")
# The emotions of EMOVA's prompt that this project folds into its four.
FOLDED = {"surprised": "happy", "disgusted": "angry", "fearful": "sad"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
  """What the assistant says: to be written as ids, or read from them.

  Attributes:
    text: the words.
    style: how they are spoken; None for a written reply.
    units: int32 [N] reduced units; empty for a written reply.
    heard_text: the words of the user, if the user spoke.
    heard_style: the style of the user (JSON layout only; the native layout has it in the prompt).
    problem: after reading, what breaks the layout; empty if nothing does.
    emotion: the word that was read, where it is none of the four that `style` knows (JSON layout only).
    speed: slow, normal or fast (JSON layout only).
  """

  text: str = ""
  style: Style | None = None
  units: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
  heard_text: str = ""
  heard_style: Style | None = None
  problem: str = ""
  emotion: str = ""
  speed: str = NORMAL

  @property
  def condition(self) -> str:
    """The style as EMOVA's vocoder names it, one of 126."""
    style = self.style or Style("female", "neutral", "normal")
    emotion = self.emotion or style.emotion
    return f"gender-{style.gender}_emotion-{emotion}_speed-{self.speed}_pitch-{style.pitch}"


class Layout(Protocol):
  """One way to write a spoken reply."""

  def segments(self, reply: Reply, *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> list[Segment]:
    """Returns `reply` as text and ids, without the end of the turn."""
    ...

  def decode(self, ids: Sequence[int], *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Reply:
    """Returns the reply that `ids` (up to the end of the turn) hold."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeLayout:
  """Style, transcript of the user, then text and units in turns."""

  text_chunk: int  # text tokens in one turn
  unit_chunk: int  # units in one turn

  def __post_init__(self):
    if self.text_chunk < 1 or self.unit_chunk < 1:
      raise UserError(
        f"chunks of {self.text_chunk} text tokens and {self.unit_chunk} units",
        where="layout",
        rule="both chunks are at least 1",
        remedy="for example 4 text tokens and 12 units",
      )

  def encode(self, reply: Reply, *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> list[int]:
    """Returns the ids of `reply`."""
    return encode_segments(self.segments(reply, vocabulary=vocabulary, tokenizer=tokenizer), tokenizer)

  def segments(self, reply: Reply, *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> list[Segment]:
    """Returns `reply` as text and ids; one without style and transcript is its text alone."""
    if not (reply.style or reply.heard_text or len(reply.units)):
      return [reply.text]
    ids = encode_style(reply.style, vocabulary) if reply.style else []
    if reply.heard_text:
      ids += [vocabulary.control("heard"), *tokenizer.encode(reply.heard_text), vocabulary.control("answer")]
    return [ids + self.interleave(tokenizer.encode(reply.text), vocabulary.unit_ids[reply.units].tolist())]

  def interleave(self, text: list[int], units: list[int]) -> list[int]:
    """Returns text and units in turns; all text left comes out before the last chunk of units."""
    ids: list[int] = []
    while text and len(units) > self.unit_chunk:
      ids += text[: self.text_chunk] + units[: self.unit_chunk]
      text, units = text[self.text_chunk :], units[self.unit_chunk :]
    return ids + text + units

  def decode(self, ids: Sequence[int], *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Reply:
    """Returns the reply, repaired if need be."""
    kinds, unit_of, is_piece = vocabulary.kinds(), vocabulary.unit_of(), vocabulary.pieces()
    problems, rest = [], [int(i) for i in ids]
    style = decode_style(rest[:NUM_STYLE_TOKENS], vocabulary)
    if style:
      rest = rest[NUM_STYLE_TOKENS:]
    if any(kinds[i] == STYLE for i in rest):
      problems.append("style tokens out of place")
    heard, rest, trouble = self._split_heard(rest, vocabulary=vocabulary)
    problems += [trouble] if trouble else []
    pieces = [i for i in rest if is_piece[i]]
    units = unit_of[[i for i in rest if kinds[i] == UNIT]].astype(np.int32)
    if len(pieces) + len(units) + sum(kinds[i] == STYLE for i in rest) < len(rest):
      problems.append("control tokens out of place")
    if (style is None) != (len(units) == 0):
      problems.append("units without a style" if len(units) else "a style without units")
    text = tokenizer.decode(pieces)
    problems += ["no text"] if not text.strip() else []
    return Reply(text=text, style=style, units=units, heard_text=tokenizer.decode(heard), problem="; ".join(problems))

  @staticmethod
  def _split_heard(ids: list[int], *, vocabulary: Vocabulary) -> tuple[list[int], list[int], str]:
    """Returns the pieces of the transcript, the ids after it, and what is wrong with it."""
    heard, answer = vocabulary.control("heard"), vocabulary.control("answer")
    if not ids or ids[0] != heard:
      return [], ids, ""
    end = ids.index(answer) if answer in ids else len(ids)
    inside, is_piece = ids[1:end], vocabulary.pieces()
    pieces = [i for i in inside if is_piece[i]]
    trouble = "" if end < len(ids) else "the transcript does not end"
    return pieces, ids[end + 1 :], trouble or ("" if pieces == inside else "other tokens inside the transcript")


JSON_KEYS = (
  "user question text",
  "user question emotion",
  "user question pitch",
  "assistant response text",
  "assistant response emotion",
  "assistant response pitch",
  "assistant response speech",
)
SPEED_KEY = "assistant response speed"  # read where there is one; EMOVA's demonstration does
_UNITS_OPEN = f'"{JSON_KEYS[-1]}": "'


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonLayout:
  """EMOVA's JSON object. It has no gender: that is the user's choice, so reading needs it given.

  `generate.json_constraints` lets nothing else come.
  """

  gender: str = "female"

  def encode(self, reply: Reply, *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> list[int]:
    """Returns the ids of `reply`."""
    return encode_segments(self.segments(reply, vocabulary=vocabulary, tokenizer=tokenizer), tokenizer)

  def segments(self, reply: Reply, *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> list[Segment]:
    """Returns the object as text and ids; a reply without units is its text alone."""
    del tokenizer
    if reply.style is None:
      return [reply.text]
    heard = (reply.heard_style.emotion, reply.heard_style.pitch) if reply.heard_style else ("", "")
    spoken = (reply.emotion or reply.style.emotion, reply.style.pitch)
    fields = dict(zip(JSON_KEYS, (reply.heard_text, *heard, reply.text, *spoken, ""), strict=True))
    if reply.speed != NORMAL:
      # The units stay last.
      fields = {**{key: fields[key] for key in JSON_KEYS[:-1]}, SPEED_KEY: reply.speed, JSON_KEYS[-1]: ""}
    head = json.dumps(fields, ensure_ascii=False)[: -len('"}')]
    return [head, vocabulary.unit_ids[reply.units].tolist(), '"}']

  def decode(self, ids: Sequence[int], *, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Reply:
    """Returns the reply. Units are recognised as ids, so nothing a user spelt out can become one.

    `problem` is empty for the object of the layout alone: its seven keys with strings, perhaps a speed, styles that the
    prompt names, and units in their place. What is read besides is repaired: a missing end is put there, as EMOVA's
    demonstration does, each key is taken wherever it stands, and a style that cannot be read is neutral and normal.
    """
    kinds, unit_of = vocabulary.kinds(), vocabulary.unit_of()
    array = np.asarray(ids, np.int64)
    places = np.flatnonzero(kinds[array] == UNIT)
    start, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (len(array), len(array))
    units = unit_of[array[places]].astype(np.int32)
    head, tail = (self._text(array[part], vocabulary, tokenizer) for part in (slice(0, start), slice(end, None)))
    if not len(places) and not head.lstrip().startswith("{"):
      return Reply(text=head, problem="" if head.strip() else "no text")
    problems = [] if len(places) == end - start else ["text between units"]
    problems += [] if np.all(kinds[array] != STYLE) else ["style tokens in a JSON answer"]
    fields, trouble = _read_object(head, tail)
    return self._reply(fields, units=units, problems=problems + trouble)

  def _reply(self, fields: dict[str, str], *, units: np.ndarray, problems: list[str]) -> Reply:
    styles: list[Style | None] = []
    for side in ("user question", "assistant response"):
      emotion, pitch = fields.get(f"{side} emotion", ""), fields.get(f"{side} pitch", "")
      try:
        styles.append(Style(self.gender, FOLDED.get(emotion, emotion), pitch) if emotion or pitch else None)
      except UserError as error:
        styles.append(None)
        problems = [*problems, error.what]
    style, emotion, speed = styles[1], fields.get("assistant response emotion", ""), fields.get(SPEED_KEY, NORMAL)
    if style is None:
      # EMOVA's demonstration speaks with a neutral voice where it cannot read the style.
      style, emotion = Style(self.gender, "neutral", "normal"), ""
      problems = [*problems, "no style of the answer"]
    if speed not in SPEEDS:
      speed, problems = NORMAL, [*problems, f"unknown speed {speed!r}"]
    return Reply(
      text=fields.get("assistant response text", ""),
      style=style,
      units=units,
      heard_text=fields.get("user question text", ""),
      heard_style=styles[0],
      problem="; ".join(problems),
      emotion=emotion if emotion in FOLDED else "",
      speed=speed,
    )

  @staticmethod
  def _text(ids: np.ndarray, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> str:
    return tokenizer.decode(ids[vocabulary.pieces()[ids]].tolist())


def _read_object(head: str, tail: str) -> tuple[dict[str, str], list[str]]:
  """Returns the fields of the object whose units stood between `head` and `tail`, and what had to be repaired."""
  try:
    fields = json.loads(head + tail)
    if isinstance(fields, dict) and set(fields) - {SPEED_KEY} == set(JSON_KEYS) and _are_strings(fields):
      return fields, [] if head.endswith(_UNITS_OPEN) and not fields[JSON_KEYS[-1]] else ["units outside their field"]
    problems = ["other keys than the layout's"]
  except json.JSONDecodeError as error:
    problems = [f"not JSON ({error})"]
  # Repair: take each key's string wherever it stands, up to its closing quote or the end of what was written.
  fields = {}
  for key in (*JSON_KEYS[:-1], SPEED_KEY):
    _, found, after = head.partition(f'"{key}": ')
    if not found:
      continue
    try:
      value, _ = json.JSONDecoder().raw_decode(after)
    except json.JSONDecodeError:
      value = after.lstrip('"')
    fields[key] = value if isinstance(value, str) else ""
  return fields, problems


def _are_strings(fields: dict) -> bool:
  return all(isinstance(value, str) for value in fields.values())
