"""Turns -> grid: questions and replies become ids, and what the model learns is decided here by construction.

Everything that is not text enters as ids: image places, units, styles, controls. A spoken question is the style that a
style encoder heard, then the reduced units; an image stands before everything else in its turn.

Text and text that follow each other are encoded as one, as a released model saw them, with one cut: where the answer
begins. What is given is thus always a prompt, what is learned always what the model would write after it. Deviation:
EMOVA finds this place by encoding beginnings of the whole again, and drops a sample where that goes wrong.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.tokens.answers import Layout, Reply
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.grid import Grid, branch_off, given, join, learned
from omni_jax.tokens.styles import encode_style
from omni_jax.tokens.templates import Template, spell
from omni_jax.tokens.text import Segment, TextTokenizer, encode_segments, joined
from omni_jax.tokens.vocabulary import Vocabulary

TOKENIZER_FILE, VOCABULARY_FILE = "tokenizer.model", "vocabulary.json"

_NO_UNITS = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Question:
  """What the user gives: any of an image, a text, and speech.

  Attributes:
    text: typed words.
    image_tokens: places that its images take, 0 without an image.
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

  def __post_init__(self):
    close = self._spelt(self.template.assistant_close)
    ends = [i for segment in close if not isinstance(segment, str) for i in segment]
    if ends and self.vocabulary.control("end") not in ends:
      raise UserError(
        f"the template ends an answer with {''.join(self.template.assistant_close)!r}",
        where="dialogue",
        rule=f"the vocabulary ends it with the id {self.vocabulary.control('end')}",
        remedy="extend the vocabulary with the end of this template, or choose the template of the vocabulary",
      )

  def document(self, text: str) -> Grid:
    """Returns a text that nobody asked for, all of it learned."""
    opening = self._encode(self._spelt(self.template.document_open))
    return join(given(opening), learned(self._encode([text, *self._spelt(self.template.assistant_close)])))

  def conversation(self, pairs: Sequence[tuple[Question, Reply]], *, system: str | None = None) -> Grid:
    """Returns questions and replies in order; every reply and its end is learned.

    Args:
      pairs: the turns.
      system: what stands first; by default what the template says.
    """
    grids = []
    for number, (question, reply) in enumerate(pairs):
      asked = self._asked(question, first=number == 0)
      grids += [given(self._encode([*self._begin(system), *asked] if number == 0 else asked)), self._answer(reply)]
    return join(*grids)

  def annotations(self, pairs: Sequence[tuple[Question, Reply]]) -> Grid:
    """Returns several questions about one image, each with its reply (learned), none seeing another."""
    trunk: list[int] = []
    branches = []
    for question, reply in pairs:
      runs = self._opening(question)
      # The trunk ends with the image, or with the last token before the question: text goes on within a branch.
      trunk = self._encode(runs if not isinstance(runs[-1], str) else runs[:-1])
      branches.append(join(given(self.prompt(question)[len(trunk) :]), self._answer(reply)))
    return branch_off(given(trunk), branches)

  def recognition(self, question: Question, text: str) -> Grid:
    """Returns a request to write down the speech of `question`, and the transcript (learned)."""
    return join(given(self.recognition_prompt(question)), self._answer(Reply(text=text)))

  def synthesis(self, text: str, style: Style, units: np.ndarray) -> Grid:
    """Returns a request to say `text`, the style (given, where an answer has it), and the units (learned)."""
    said = self._closed([self.vocabulary.unit_ids[units].tolist()])
    return join(given(self.synthesis_prompt(text, style)), learned(self._encode(said)))

  def prompt(
    self,
    question: Question,
    *,
    style: Style | None = None,
    history: Sequence[tuple[Question, Reply]] = (),
    system: str | None = None,
  ) -> list[int]:
    """Returns the ids up to where the reply begins.

    Args:
      question: the last turn.
      style: forced, by beginning the reply with it.
      history: earlier turns.
      system: what stands first; by default what the template says.
    """
    forced = encode_style(style, self.vocabulary) if style else []
    if not history:
      return self._encode([*self._begin(system), *self._asked(question, first=True), forced])
    before = self.conversation(history, system=system).row.tolist()
    return before + self._encode([*self._asked(question, first=False), forced])

  def recognition_prompt(self, question: Question) -> list[int]:
    """Returns the ids up to where the transcript begins."""
    return self._encode([*self._begin(None), *self._turn(question, self._spelt(self.template.transcribe), first=True)])

  def transcript(self, text: str) -> list[int]:
    """Returns the ids that answer a recognition prompt, the end of the turn among them."""
    return self._answer(Reply(text=text)).row.tolist()

  def synthesis_prompt(self, text: str, style: Style) -> list[int]:
    """Returns the ids up to where the units begin; the style is left to the vocoder where it has no tokens."""
    turn = self._turn(Question(text=text), self._spelt(self.template.say), first=True)
    return self._encode([*self._begin(None), *turn, encode_style(style, self.vocabulary)])

  def read(self, ids: Sequence[int] | np.ndarray) -> Reply:
    """Returns the reply that `ids` hold, up to the first end of turn."""
    reply = self.layout.decode(self.before_end(ids), vocabulary=self.vocabulary, tokenizer=self.tokenizer)
    return reply if reply.style else dataclasses.replace(reply, text=self._bare(reply.text))

  def read_text(self, ids: Sequence[int] | np.ndarray) -> str:
    """Returns the text before the first end of turn, other ids left out."""
    return self._bare(self.tokenizer.decode([i for i in self.before_end(ids) if self._is_piece[i]]))

  def read_units(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the units before the first end of turn, int32 [N], other ids left out."""
    units = self._unit_of[np.asarray(self.before_end(ids), np.int64)]
    return units[units >= 0]

  def before_end(self, ids: Sequence[int] | np.ndarray) -> list[int]:
    """Returns `ids` up to the first end of turn."""
    listed = np.asarray(ids).tolist()
    end = self.vocabulary.control("end")
    return listed[: listed.index(end)] if end in listed else listed

  def _bare(self, text: str) -> str:
    """Returns an answer's text without what the template puts around it (vicuna: a space, `###`)."""
    opening = "".join(self.template.answer_open)
    close = self._spelt(self.template.assistant_close)
    text = text.removeprefix(opening)
    if not close or not isinstance(close[0], str):
      return text
    return text.partition(close[0])[0] if len(close) == 1 else text.removesuffix(close[0])

  def _begin(self, system: str | None) -> list[Segment]:
    template = self.template
    text = template.system if system is None else system
    around = [*self._spelt(template.system_open), text, *self._spelt(template.system_close)] if text else []
    return [*self._spelt(template.opening), *around]

  def _asked(self, question: Question, *, first: bool) -> list[Segment]:
    return self._turn(question, self._spelt(self.template.respond) if len(question.units) else [], first=first)

  def _turn(self, question: Question, request: list[Segment], *, first: bool) -> list[Segment]:
    template = self.template
    heard = encode_style(question.style, self.vocabulary) if len(question.units) and question.style else []
    body = [*request, question.text, heard, self.vocabulary.unit_ids[question.units].tolist()]
    image = self._image(question)
    around = [*self._spelt(template.user_close), *self._spelt(template.assistant_open)]
    return [*self._user_open(first=first), *image, *body, *around]

  def _opening(self, question: Question) -> list[Segment]:
    """Returns the runs of the first turn up to the image or to the question."""
    image = self._image(question)[:1]
    return joined([*self._begin(None), *self._user_open(first=True), *image])

  def _user_open(self, *, first: bool) -> list[Segment]:
    following = self.template.next_user_open
    return self._spelt(self.template.user_open if first or following is None else following)

  def _image(self, question: Question) -> list[Segment]:
    places = [self.vocabulary.control("image")] * question.image_tokens
    return [places, *self._spelt(self.template.image_close)] if places else []

  def _answer(self, reply: Reply) -> Grid:
    parts = self.layout.segments(reply, vocabulary=self.vocabulary, tokenizer=self.tokenizer)
    return learned(self._encode(self._closed(parts)))

  def _closed(self, parts: list[Segment]) -> list[Segment]:
    """Returns the parts of an answer with what the template puts around them."""
    opening = self._spelt(self.template.answer_open)
    if opening == [" "] and self.tokenizer.prefixes_space:
      opening = []  # the tokenizer writes this space itself
    return [*opening, *parts, *self._spelt(self.template.assistant_close)]

  def _encode(self, segments: Sequence[Segment]) -> list[int]:
    return encode_segments(segments, self.tokenizer)

  def _spelt(self, pieces: tuple[str, ...]) -> list[Segment]:
    """Returns a part of the template, its special tokens as ids."""
    if pieces not in self._known:
      self._known[pieces] = joined(spell(pieces, self.vocabulary.named()))
    return self._known[pieces]

  @functools.cached_property
  def _known(self) -> dict[tuple[str, ...], list[Segment]]:
    return {}

  @functools.cached_property
  def _is_piece(self) -> np.ndarray:
    return self.vocabulary.pieces()

  @functools.cached_property
  def _unit_of(self) -> np.ndarray:
    return self.vocabulary.unit_of()


def load_dialogue(folder: pathlib.Path, *, template: Template, layout: Layout) -> Dialogue:
  """Returns the writer and reader for the vocabulary and the text tokenizer in `folder`.

  Raises:
    UserError: one of the two files is missing or damaged, or they do not belong together.
  """
  vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
  tokenizer = load_tokenizer(folder)
  if (tokenizer.num_pieces, tokenizer.fingerprint) != (vocabulary.num_pieces, vocabulary.tokenizer_id):
    raise UserError(
      f"the text tokenizer has the fingerprint {tokenizer.fingerprint}",
      where=folder,
      rule=f"{VOCABULARY_FILE} belongs to the tokenizer {vocabulary.tokenizer_id}",
      remedy="restore the tokenizer, or build the vocabulary again and train every stage that reads text again",
    )
  return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=template, layout=layout)
