"""An answer while it is being written: ids in, pieces of text and of sound out as soon as they are certain."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from omni_jax.core.styles import Style
from omni_jax.generate.exchange import Event
from omni_jax.speech.interface import SpeechStream, Vocoder
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.speech_gpt import SpeechGPTWriter
from omni_jax.tokens.styles import NUM_STYLE_TOKENS, decode_style
from omni_jax.tokens.text import TextTokenizer
from omni_jax.tokens.vocabulary import Vocabulary

_UNFINISHED = "\ufffd"  # what a tokenizer gives for the first bytes of a character


class LiveAnswer(ABC):
  """Reads the ids of an answer as they come; what words and styles are among them is each layout's own."""

  def __init__(self, vocabulary: Vocabulary, *, voice: SpeechStream | None):
    """Starts before the first id; without a `voice` the sound is left out."""
    self._unit_of, self._is_piece, self._voice = vocabulary.unit_of(), vocabulary.pieces(), voice
    self._last_unit = -1

  def push(self, ids: np.ndarray) -> Iterator[Event]:
    """Returns what these ids make certain, sound last; equal units in a row are one."""
    units = []
    for token in ids.tolist():
      unit = int(self._unit_of[token])
      style = self._file(token) if unit < 0 else None
      if style:
        yield Event(style=style)
      if unit >= 0 and unit != self._last_unit:
        units.append(unit)
        self._last_unit = unit
    yield from self._words(whole=False)
    if units and self._voice:
      yield from _sound(self._voice.push(np.array(units, np.int32)))

  def finish(self) -> Iterator[Event]:
    """Returns the rest of the words, the bytes of a character that never came whole among them, and of the sound."""
    yield from self._words(whole=True)
    if self._voice and self._last_unit >= 0:
      yield from _sound(self._voice.finish())

  @abstractmethod
  def _file(self, token: int) -> Style | None:
    """Files an id that is no unit; returns the style when it is complete."""

  @abstractmethod
  def _news(self, *, whole: bool) -> Sequence[str]:
    """Returns what is new of the words heard and said."""

  def _words(self, *, whole: bool) -> Iterator[Event]:
    heard, text = self._news(whole=whole)
    if heard or text:
      yield Event(text=text, heard_text=heard)


class ReplyStream(LiveAnswer):
  """Reads a reply in the native layout as its ids come."""

  def __init__(self, dialogue: Dialogue, *, vocoder: Vocoder | None, style: Style | None):
    """Starts before the first id.

    Args:
      dialogue: reads ids.
      vocoder: speaks units; None leaves the sound out.
      style: of the answer, if it was given and so is not among the ids.
    """
    super().__init__(dialogue.vocabulary, voice=vocoder.stream(style) if vocoder and style else None)
    self._vocabulary, self._vocoder = dialogue.vocabulary, vocoder
    self._style_ids: list[int] = []
    self._hearing = False
    self._heard, self._said = Words(dialogue.tokenizer), Words(dialogue.tokenizer)

  def _file(self, token: int) -> Style | None:
    if token in (self._vocabulary.control("heard"), self._vocabulary.control("answer")):
      self._hearing = token == self._vocabulary.control("heard")
    elif self._is_piece[token]:
      (self._heard if self._hearing else self._said).ids.append(token)
    else:
      self._style_ids.append(token)
      if len(self._style_ids) == NUM_STYLE_TOKENS:
        style = decode_style(self._style_ids, self._vocabulary)
        self._voice = self._vocoder.stream(style) if self._vocoder and style else self._voice
        return style
    return None

  def _news(self, *, whole: bool) -> Sequence[str]:
    return self._heard.news(whole=whole), self._said.news(whole=whole)


class ChainStream(LiveAnswer):
  """Reads a chain of modality as its ids come: what was heard, what is said, then units in their own voice."""

  def __init__(self, writer: SpeechGPTWriter, *, hears: bool, voice: SpeechStream | None):
    """Starts before the first id.

    Args:
      writer: of the vocabulary.
      hears: whether the answer begins with what was heard.
      voice: speaks units; None leaves the sound out.
    """
    super().__init__(writer.vocabulary, voice=voice)
    self._decode, self._hears = writer.tokenizer.decode, hears
    self._pieces: list[int] = []
    self._told = ["", ""]

  def _file(self, token: int) -> None:
    if self._is_piece[token] and self._last_unit < 0:  # pieces behind the speech end the answer
      self._pieces.append(token)

  def _news(self, *, whole: bool) -> Sequence[str]:
    """Returns what is new; what may be the beginning of a marker waits."""
    heard, chained, said = self._decode(self._pieces).partition("[ta]")
    parts = (heard if self._hears else "", said if chained else "")
    known = [_words(part) if whole else _words(part.rstrip(_UNFINISHED)) for part in parts]
    news = [words[len(told) :] for words, told in zip(known, self._told, strict=True)]
    self._told = [told + new for told, new in zip(self._told, news, strict=True)]
    return news


def _sound(samples: np.ndarray) -> Iterator[Event]:
  if len(samples):
    yield Event(samples=samples)


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
