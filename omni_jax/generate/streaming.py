"""An answer while it is being written: ids in, pieces of text and of sound out as soon as they are certain."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from omni_jax.core.styles import Style
from omni_jax.speech.interface import SpeechStream, Vocoder
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.speech_gpt import SpeechGPTWriter
from omni_jax.tokens.styles import NUM_STYLE_TOKENS, decode_style
from omni_jax.tokens.text import TextTokenizer

_UNFINISHED = "\ufffd"  # what a tokenizer gives for the first bytes of a character


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
  """What became certain: more of the answer's text, more of its sound, the words heard, or the style."""

  text: str = ""
  heard_text: str = ""
  style: Style | None = None
  samples: np.ndarray | None = None


class ReplyStream:
  """Reads a reply in the native layout as its ids come."""

  def __init__(self, dialogue: Dialogue, *, vocoder: Vocoder | None, style: Style | None):
    """Starts before the first id.

    Args:
      dialogue: reads ids.
      vocoder: speaks units; None leaves the sound out.
      style: of the answer, if it was given and so is not among the ids.
    """
    self._vocabulary = dialogue.vocabulary
    self._unit_of, self._is_piece = dialogue.vocabulary.unit_of(), dialogue.vocabulary.pieces()
    self._vocoder = vocoder
    self._voice: SpeechStream | None = None
    self._style_ids: list[int] = []
    self._hearing = False
    self._heard, self._said = Words(dialogue.tokenizer), Words(dialogue.tokenizer)
    if style:
      self._begin(style)

  def push(self, ids: np.ndarray) -> Iterator[Piece]:
    """Returns what these ids make certain, sound last."""
    units: list[int] = []
    for token in ids.tolist():
      style = self._read(token, units)
      if style:
        yield Piece(style=style)
    heard, text = self._heard.news(), self._said.news()
    if heard or text:
      yield Piece(text=text, heard_text=heard)
    if units and self._voice:
      samples = self._voice.push(np.array(units, np.int32))
      if len(samples):
        yield Piece(samples=samples)

  def finish(self) -> Iterator[Piece]:
    """Returns the rest of the words, the bytes of a character that never came whole among them, and of the sound."""
    heard, text = self._heard.news(whole=True), self._said.news(whole=True)
    if heard or text:
      yield Piece(text=text, heard_text=heard)
    if self._voice:
      samples = self._voice.finish()
      if len(samples):
        yield Piece(samples=samples)

  def _read(self, token: int, units: list[int]) -> Style | None:
    """Files one id; returns the style when it is complete."""
    if token in (self._vocabulary.control("heard"), self._vocabulary.control("answer")):
      self._hearing = token == self._vocabulary.control("heard")
    elif self._is_piece[token]:
      (self._heard if self._hearing else self._said).ids.append(token)
    elif self._unit_of[token] >= 0:
      units.append(int(self._unit_of[token]))
    else:
      self._style_ids.append(token)
      style = decode_style(self._style_ids, self._vocabulary) if len(self._style_ids) == NUM_STYLE_TOKENS else None
      if style:
        self._begin(style)
      return style
    return None

  def _begin(self, style: Style) -> None:
    self._voice = self._vocoder.stream(style) if self._vocoder else None


class ChainStream:
  """Reads a chain of modality as its ids come: what was heard, what is said, then units in their own voice."""

  def __init__(self, writer: SpeechGPTWriter, *, hears: bool, voice: SpeechStream | None):
    """Starts before the first id.

    Args:
      writer: of the vocabulary.
      hears: whether the answer begins with what was heard.
      voice: speaks units; None leaves the sound out.
    """
    self._unit_of, self._is_piece = writer.vocabulary.unit_of(), writer.vocabulary.pieces()
    self._decode, self._hears, self._voice = writer.tokenizer.decode, hears, voice
    self._pieces: list[int] = []
    self._told = ["", ""]
    self._last = -1

  def push(self, ids: np.ndarray) -> Iterator[Piece]:
    """Returns what these ids make certain, sound last."""
    units = []
    for token in ids.tolist():
      unit = int(self._unit_of[token])
      if self._is_piece[token] and self._last < 0:  # pieces behind the speech end the answer
        self._pieces.append(token)
      if unit >= 0 and unit != self._last:
        units.append(unit)
        self._last = unit
    heard, text = self._news()
    if heard or text:
      yield Piece(text=text, heard_text=heard)
    if units and self._voice:
      samples = self._voice.push(np.array(units, np.int32))
      if len(samples):
        yield Piece(samples=samples)

  def finish(self) -> Iterator[Piece]:
    """Returns the rest of the words, the bytes of a character that never came whole among them, and of the sound."""
    heard, text = self._news(whole=True)
    if heard or text:
      yield Piece(text=text, heard_text=heard)
    samples = self._voice.finish() if self._voice and self._last >= 0 else np.zeros(0, np.float32)
    if len(samples):
      yield Piece(samples=samples)

  def _news(self, *, whole: bool = False) -> list[str]:
    """Returns what is new of the words heard and said; what may be the beginning of a marker waits."""
    heard, chained, said = self._decode(self._pieces).partition("[ta]")
    parts = (heard if self._hears else "", said if chained else "")
    known = [_words(part) if whole else _words(part.rstrip(_UNFINISHED)) for part in parts]
    news = [words[len(told) :] for words, told in zip(known, self._told, strict=True)]
    self._told = [told + new for told, new in zip(self._told, news, strict=True)]
    return news


def _words(text: str) -> str:
  """Returns the words of a part of a chain that has not ended: nothing that may be the beginning of a marker."""
  words = text.replace("[tq]", "").partition("[")[0].partition("<")[0]
  return words.strip().removesuffix(";").strip()


class Stopwatch:
  """CPU seconds by stage: the work of all cores, which other programs do not change much."""

  def __init__(self):
    self.seconds: dict[str, float] = {}

  @contextmanager
  def stage(self, name: str) -> Iterator[None]:
    """Adds what is spent inside to a stage."""
    start = time.process_time()
    try:
      yield
    finally:
      self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start

  def iterate(self, name: str, items: Iterator) -> Iterator:
    """Returns `items`, what it takes to make them added to a stage."""
    while True:
      with self.stage(name):
        try:
          item = next(items)
        except StopIteration:
          return
      yield item

  def rounded(self) -> Mapping[str, float]:
    """Returns the seconds to a tenth of a millisecond."""
    return {name: round(seconds, 4) for name, seconds in self.seconds.items()}


class Words:
  """Pieces of one text, of which only whole characters are told."""

  def __init__(self, tokenizer: TextTokenizer):
    self._tokenizer, self.ids, self._told = tokenizer, [], 0

  def news(self, *, whole: bool = False) -> str:
    """Returns the text that `ids` have more than when this was last asked; `whole`: no more of them will come."""
    text = self._tokenizer.decode(self.ids)
    text = text if whole else text.rstrip(_UNFINISHED)
    new, self._told = text[self._told :], len(text)
    return new
