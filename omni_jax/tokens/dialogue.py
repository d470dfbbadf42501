"""Turns -> grid: questions and replies become ids, and what the model learns is decided here by construction.

Everything that is not text enters as ids: image places, units, styles, controls. A spoken question is the style that a
style encoder heard, then the reduced units; an image stands before everything else in its turn.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.tokens.answers import Layout, Reply
from omni_jax.tokens.grid import Grid, branch_off, given, join, learned
from omni_jax.tokens.styles import encode_style
from omni_jax.tokens.templates import Template
from omni_jax.tokens.text import SentencePieceTokenizer, TextTokenizer
from omni_jax.tokens.vocabulary import Vocabulary

TOKENIZER_FILE, VOCABULARY_FILE = "tokenizer.model", "vocabulary.json"

_NO_UNITS = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Question:
  """What the user gives: any of an image, a text, and speech.

  Attributes:
    text: typed words.
    image_tokens: places that the image takes (merged patches), 0 without an image.
    units: int32 [N] reduced units of the speech, empty without speech.
    style: the style heard in the speech; None leaves it out.
  """

  text: str = ""
  image_tokens: int = 0
  units: np.ndarray = dataclasses.field(default_factory=lambda: _NO_UNITS)
  style: Style | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialogue:
  """The writer and reader of conversations for one vocabulary, template and layout."""

  vocabulary: Vocabulary
  tokenizer: TextTokenizer
  template: Template
  layout: Layout

  def document(self, text: str) -> Grid:
    """Returns a text that nobody asked for, all of it learned."""
    return join(given(self._pieces(self.template.document_open)), learned(self._text(text)), self._end())

  def conversation(self, pairs: Sequence[tuple[Question, Reply]], *, system: str = "") -> Grid:
    """Returns questions and replies in order; every reply and its end is learned."""
    grids = [given(self._system(system))]
    for question, reply in pairs:
      grids += [given(self.prompt(question)), learned(self._encode(reply)), self._end()]
    return join(*grids)

  def annotations(self, pairs: Sequence[tuple[Question, Reply]]) -> Grid:
    """Returns several questions about one image, each with its reply (learned), none seeing another."""
    opening = self._opening(pairs[0][0].image_tokens)
    branches = []
    for question, reply in pairs:
      rest = self.prompt(question)[len(opening) :]
      branches.append(join(given(rest), learned(self._encode(reply)), self._end()))
    return branch_off(given(opening), branches)

  def recognition(self, question: Question, text: str) -> Grid:
    """Returns a request to write down the speech of `question`, and the transcript (learned)."""
    return join(given(self.recognition_prompt(question)), learned(self.transcript(text)))

  def synthesis(self, text: str, style: Style, units: np.ndarray) -> Grid:
    """Returns a request to say `text`, the style (given, where an answer has it), and the units (learned)."""
    return join(given(self.synthesis_prompt(text, style)), learned(self.vocabulary.unit_ids[units]), self._end())

  def prompt(self, question: Question, *, style: Style | None = None) -> list[int]:
    """Returns the ids up to where the reply begins; a `style` is forced by beginning the reply with it."""
    request = self._pieces(self.template.respond) if len(question.units) else []
    return self._turn(question, request) + (encode_style(style, self.vocabulary) if style else [])

  def recognition_prompt(self, question: Question) -> list[int]:
    """Returns the ids up to where the transcript begins."""
    return self._turn(question, self._pieces(self.template.transcribe))

  def transcript(self, text: str) -> list[int]:
    """Returns the ids that answer a recognition prompt, the end of the turn among them."""
    return [*self._text(text), *self._pieces(self.template.assistant_close)]

  def synthesis_prompt(self, text: str, style: Style) -> list[int]:
    """Returns the ids up to where the units begin."""
    turn = self._turn(Question(text=text), self._pieces(self.template.say))
    return turn + encode_style(style, self.vocabulary)

  def read(self, ids: Sequence[int] | np.ndarray) -> Reply:
    """Returns the reply that `ids` hold, up to the first end of turn."""
    return self.layout.decode(self.before_end(ids), vocabulary=self.vocabulary, tokenizer=self.tokenizer)

  def read_text(self, ids: Sequence[int] | np.ndarray) -> str:
    """Returns the text before the first end of turn, other ids left out."""
    return self.tokenizer.decode([i for i in self.before_end(ids) if i < self.vocabulary.num_pieces])

  def read_units(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the units before the first end of turn, int32 [N], other ids left out."""
    units = self._unit_of[np.asarray(self.before_end(ids), np.int64)]
    return units[units >= 0]

  def before_end(self, ids: Sequence[int] | np.ndarray) -> list[int]:
    """Returns `ids` up to the first end of turn."""
    listed = np.asarray(ids).tolist()
    end = self.vocabulary.control("end")
    return listed[: listed.index(end)] if end in listed else listed

  def _turn(self, question: Question, request: list[int]) -> list[int]:
    template = self.template
    ids = self._opening(question.image_tokens) + request + self._text(question.text)
    if len(question.units):
      ids = ids + (encode_style(question.style, self.vocabulary) if question.style else [])
      ids = ids + self.vocabulary.unit_ids[question.units].tolist()
    return ids + self._pieces(template.user_close) + self._pieces(template.assistant_open)

  def _opening(self, image_tokens: int) -> list[int]:
    image = [self.vocabulary.control("image")] * image_tokens
    return self._pieces(self.template.user_open) + image + (self._pieces(self.template.image_close) if image else [])

  def _system(self, text: str) -> list[int]:
    template = self.template
    return (
      [*self._pieces(template.system_open), *self._text(text), *self._pieces(template.system_close)] if text else []
    )

  def _encode(self, reply: Reply) -> list[int]:
    return self.layout.encode(reply, vocabulary=self.vocabulary, tokenizer=self.tokenizer)

  def _end(self) -> Grid:
    return learned(self._pieces(self.template.assistant_close))

  def _text(self, text: str) -> list[int]:
    return self.tokenizer.encode(text) if text else []

  def _pieces(self, pieces: tuple[str, ...]) -> list[int]:
    return self._encoded_pieces[pieces]

  @functools.cached_property
  def _encoded_pieces(self) -> dict[tuple[str, ...], list[int]]:
    """Every part of the template, encoded once."""
    return {pieces: self._encode_pieces(pieces) for pieces in dataclasses.astuple(self.template)}

  def _encode_pieces(self, pieces: tuple[str, ...]) -> list[int]:
    ids: list[int] = []
    for piece in pieces:
      control = re.fullmatch(r"<\|(\w+)\|>", piece)
      ids += [self.vocabulary.control(control[1])] if control else self.tokenizer.encode(piece)
    return ids

  @functools.cached_property
  def _unit_of(self) -> np.ndarray:
    return self.vocabulary.unit_of()


def load_dialogue(folder: pathlib.Path, *, template: Template, layout: Layout) -> Dialogue:
  """Returns the writer and reader for the vocabulary and the text tokenizer in `folder`.

  Raises:
    UserError: one of the two files is missing or damaged, or they do not belong together.
  """
  vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
  tokenizer = SentencePieceTokenizer.load(folder / TOKENIZER_FILE)
  if (tokenizer.num_pieces, tokenizer.fingerprint) != (vocabulary.num_pieces, vocabulary.tokenizer_id):
    raise UserError(
      f"{TOKENIZER_FILE} has the fingerprint {tokenizer.fingerprint}",
      where=folder,
      rule=f"{VOCABULARY_FILE} belongs to the tokenizer {vocabulary.tokenizer_id}",
      remedy="restore the tokenizer, or build the vocabulary again and train every stage that reads text again",
    )
  return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=template, layout=layout)
