"""SpeechGPT's sequences (arXiv 2305.11000): units between markers inside a plain-text conversation, and back.

    <s> system text   [Human]: ... <sosp><71><4>...<eosp> ...<eoh>  [SpeechGPT]: ... <eoa> </s>
    '--- prefix ----' '---------------------- learned, the question too ----------------------'

Text is cut once, where the answer begins, so that a prompt is always the beginning of what was learned. The space
behind the last colon belongs to the answer; the release's command line writes it in the prompt.

Chain of modality: an answer writes down what it heard, then the answer's text, then speaks it (`[tq]`, `[ta]`, `[ua]`).
`<eoa>` and these three are ordinary text; units, their markers and the roles are tokens of the vocabulary.

Facts: speechgpt/src and the data of github.com/0nutation/SpeechGPT; ids in the order in which its code adds tokens, or
as a release's `added_tokens.json` states them. Of the four requests of the paper only the first is published to the
letter; the other three say the same for other modalities.
"""

import dataclasses
import enum
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.tokens.answers import Reply
from omni_jax.tokens.grid import Grid, given, join, learned
from omni_jax.tokens.templates import spell
from omni_jax.tokens.text import Segment, TextTokenizer, encode_segments
from omni_jax.tokens.units import reduce_units
from omni_jax.tokens.vocabulary import Vocabulary

NUM_UNITS = 1000
UNITS_OPEN, UNITS_CLOSE = "<sosp>", "<eosp>"
MARKS = (UNITS_OPEN, UNITS_CLOSE, "[Human]", "[SpeechGPT]", "<eoh>", "<eos>")  # in the order of their ids
_BEGIN, _END = "<s>", "</s>"
_OVER = "<eoa>"
_UNIT = re.compile(r"<\s*(\d{1,9})\s*>")

# Two spaces after "Fudan University." and "a intrinsic", as the released data has them.
SYSTEM = (
  "You are an AI assistant whose name is SpeechGPT.\n- SpeechGPT is a intrinsic cross-modal conversational language "
  "model that is developed by Fudan University.  SpeechGPT can understand and communicate fluently with human through "
  "speech or text chosen by the user.\n- It can perceive cross-modal inputs and generate cross-modal outputs.\n"
)
INPUT = " This is input: "
# Descriptions of the two cross-modal tasks; the paper had GPT-4 write a hundred of each, these are ours.
TRANSCRIBE = (
  "Write down the words of this recording.",
  "Can you transcribe the speech into a written format?",
  "Listen to the speech and tell me its text.",
)
SAY = (
  "Read this sentence aloud.",
  "Please turn the text into speech.",
  "Say the following words.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechTemplate:
  """What stands around questions and answers; its special tokens enter as ids.

  Attributes:
    human_end: behind a question.
    answer_end: behind an answer, before the end of the sequence.
    marks_question: whether a chain of modality writes `[tq]` before what was heard.
    system: what stands first.
    human: before a question.
    answer: before an answer.
  """

  human_end: str
  answer_end: str
  marks_question: bool = False
  system: str = SYSTEM
  human: str = "[Human]: "
  answer: str = "[SpeechGPT]:"


RELEASED = SpeechTemplate(human_end="<eoh> ", answer_end="<eoa> ")  # the cross-modal data
RELEASED_CHAIN = SpeechTemplate(human_end="<eoh>. ", answer_end="<eoa>.")  # the chain-of-modality data
INFERENCE = SpeechTemplate(human_end=" <eoh>. ", answer_end="<eoa>.")  # what the command line of the release writes
PAPER = dataclasses.replace(INFERENCE, marks_question=True)


class Side(NamedTuple):
  """What one side says: `text`, and `units` int [N] if it is said aloud."""

  text: str
  units: np.ndarray | None = None


class Chain(enum.Enum):
  """A request of the chain of modality: what stands before and behind the question."""

  SPEECH_TO_SPEECH = (
    "This is a speech instruction: ",
    ". And your response should be speech. You can do it step by step. You can first transcribe the instruction and "
    "get the text Instruction. Then you can think about the instruction and get the text response. Last, you should "
    "speak the response aloud",
  )
  SPEECH_TO_TEXT = (
    "This is a speech instruction: ",
    ". And your response should be text. You can do it step by step. You can first transcribe the instruction and get "
    "the text Instruction. Then you can think about the instruction and get the text response",
  )
  TEXT_TO_SPEECH = (
    "This is a text instruction: ",
    ". And your response should be speech. You can do it step by step. You can think about the instruction and get the "
    "text response. Then, you should speak the response aloud",
  )
  TEXT_TO_TEXT = (
    "This is a text instruction: ",
    ". And your response should be text. You can think about the instruction and get the text response",
  )

  @property
  def hears(self) -> bool:
    """Whether the question is speech."""
    return self.name.startswith("SPEECH")

  @property
  def speaks(self) -> bool:
    """Whether the answer is speech too."""
    return self.name.endswith("SPEECH")


def speech_gpt_vocabulary(tokenizer: TextTokenizer, *, num_units: int = NUM_UNITS) -> Vocabulary:
  """Returns the vocabulary of a base with units and marks: as its files state them, or behind its own tokens.

  Args:
    tokenizer: of LLaMA, of a released SpeechGPT, or any other.
    num_units: classes of speech.

  Raises:
    UserError: the tokenizer has some of the units only.
  """
  own = dict(tokenizer.specials)
  names = [f"<{unit}>" for unit in range(num_units)] + list(MARKS)
  names += [name for name in (_BEGIN, _END, "<unk>") if name not in own]  # a tokenizer of ours has no ends
  known = [name for name in names[:num_units] if name in own]
  if known and len(known) < num_units:
    raise UserError(
      f"{len(known)} of {num_units} units",
      where="tokenizer",
      rule="a tokenizer has all units or none",
      remedy="copy added_tokens.json of the release again, or correct the number of units",
    )
  free = tokenizer.num_ids
  ids = {}
  for name in names:
    ids[name], free = (own[name], free) if name in own else (free, free + 1)
  units = np.array([ids[name] for name in names[:num_units]], np.int32)
  text_size = int(units.min())
  specials = {name: i for name, i in (own | ids).items() if not re.fullmatch(r"<\d+>", name)}
  return Vocabulary(
    tokenizer_id=tokenizer.fingerprint,
    num_pieces=tokenizer.num_pieces,
    text_size=text_size,
    extra_size=free - text_size,
    controls={"pad": specials["<unk>"], "start": specials[_BEGIN], "end": specials[_END]},
    styles={},
    unit_ids=units,
    specials=specials,
    never=tuple(sorted(i for i in specials.values() if i < tokenizer.num_pieces)),
  )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpeechGPTWriter:
  """The writer and reader of sequences for one vocabulary and template."""

  vocabulary: Vocabulary
  tokenizer: TextTokenizer
  template: SpeechTemplate

  def line(self, units: np.ndarray) -> Grid:
    """Returns units alone, all of them learned: what the first stage models."""
    return join(given(self._ids([[self.vocabulary.control("start")]])), learned(self._ids(self.speech(units))))

  def exchange(self, asked: Sequence[Segment], answered: Sequence[Segment]) -> Grid:
    """Returns a question and its answer; everything behind the system text is learned, as in the original."""
    pieces = (learned(self._ids(self._asking(asked))), learned(self.answer(answered)))
    return join(given(self._ids(self._prefix())), *pieces)

  def answer(self, answered: Sequence[Segment]) -> list[int]:
    """Returns the ids of an answer, its end and that of the sequence included."""
    ending = [*self._spelt(self.template.answer_end), [self.vocabulary.control("end")]]
    return self._ids([*self._answering(answered), *ending])

  def prompt(
    self, asked: Sequence[Segment], *, history: Sequence[tuple[Sequence[Segment], Sequence[Segment]]] = ()
  ) -> list[int]:
    """Returns the ids up to where the answer begins.

    Args:
      asked: the last question.
      history: earlier questions and answers; each answer is without the end of the sequence. The original has none.
    """
    turns = [self._ids(self._asking(before)) + self.answer(said)[:-1] for before, said in history]
    return [*self._ids(self._prefix()), *(i for turn in turns for i in turn), *self._ids(self._asking(asked))]

  def recognition(self, units: np.ndarray, *, description: str = TRANSCRIBE[0]) -> list[Segment]:
    """Returns the request to write down speech."""
    return [description + INPUT, *self.speech(units)]

  def synthesis(self, text: str, *, description: str = SAY[0]) -> list[Segment]:
    """Returns the request to speak a text."""
    return [description + INPUT + text]

  def request(self, chain: Chain, question: Side) -> list[Segment]:
    """Returns the request of a chain of modality."""
    before, behind = chain.value
    return [before, *(self._said(question) if chain.hears else [question.text]), behind]

  def chain(self, chain: Chain, question: Side, answer: Side) -> list[Segment]:
    """Returns the answer of a chain of modality: what was heard, its text, its speech; each where the chain has it."""
    heard = [("[tq] " if self.template.marks_question else "") + question.text + "; "] if chain.hears else []
    spoken = ["; [ua] ", *self._said(answer)] if chain.speaks else []
    return [*heard, "[ta] " + answer.text, *spoken]

  def speech(self, units: np.ndarray) -> list[Segment]:
    """Returns reduced units between their markers.

    Raises:
      UserError: no units, or a unit that the vocabulary lacks.
    """
    reduced = reduce_units(units)[0]
    outside = reduced[(reduced < 0) | (reduced >= self.vocabulary.codebook_size)]
    if not len(reduced) or len(outside):
      raise UserError(
        f"unit {outside[0]}" if len(outside) else "speech without units",
        where="SpeechGPT",
        rule=f"speech is units 0 to {self.vocabulary.codebook_size - 1}",
        remedy="encode it with the tokenizer that this vocabulary was made for",
      )
    marks = self.vocabulary.specials
    return [[marks[UNITS_OPEN], *self.vocabulary.unit_ids[reduced].tolist(), marks[UNITS_CLOSE]]]

  def read(self, ids: Sequence[int] | np.ndarray) -> Reply:
    """Returns what the ids of an answer say, up to the end of the sequence."""
    listed, end = np.asarray(ids).tolist(), self.vocabulary.control("end")
    return parse_answer(self.spell(listed[: listed.index(end)] if end in listed else listed))

  def spell(self, ids: Sequence[int]) -> str:
    """Returns ids as text with their special tokens spelt out: for people and parsers, never to be encoded."""
    names = {i: name for name, i in self.vocabulary.specials.items()}
    names |= {int(i): f"<{unit}>" for unit, i in enumerate(self.vocabulary.unit_ids)}
    parts, pieces = [], []
    for i in ids:
      if i in names:
        parts += [self.tokenizer.decode(pieces), names[i]]
        pieces = []
      else:
        pieces.append(i)
    return "".join([*parts, self.tokenizer.decode(pieces)])

  def _prefix(self) -> list[Segment]:
    return [[self.vocabulary.control("start")], self.template.system]

  def _asking(self, asked: Sequence[Segment]) -> list[Segment]:
    template = self.template
    return [*self._spelt(template.human), *asked, *self._spelt(template.human_end + template.answer)]

  def _answering(self, answered: Sequence[Segment]) -> list[Segment]:
    """Returns the answer with the space that separates it from the colon before it, as its text would have it."""
    if answered and isinstance(answered[0], str):
      return [*answered] if self.tokenizer.prefixes_space else [" ", *answered]
    colon, both = self.tokenizer.encode(":"), self.tokenizer.encode(": ")
    return [both[len(colon) :] if both[: len(colon)] == colon else self.tokenizer.encode(" "), *answered]

  def _said(self, side: Side) -> list[Segment]:
    if side.units is None:
      raise UserError(
        f"{side.text!r} without units",
        where="SpeechGPT",
        rule="what a chain of modality says aloud has units",
        remedy="encode the set first, or choose a chain of text",
      )
    return self.speech(side.units)

  def _spelt(self, text: str) -> list[Segment]:
    return list(spell([text], {name: self.vocabulary.specials[name] for name in MARKS}))

  def _ids(self, segments: Sequence[Segment]) -> list[int]:
    return encode_segments(segments, self.tokenizer)


def parse_answer(text: str) -> Reply:
  """Returns what an answer says: transcript, text and units; it never fails, and says what is wrong.

  Markers may have spaces around them, `[tq]` and `[ua]` may be missing, and speech may stand anywhere behind the text.
  """
  text, over, _ = text.partition(_OVER)
  problems = [] if over else ["no <eoa>"]
  before, opened, behind = text.partition(UNITS_OPEN)
  spoken, closed, after = behind.partition(UNITS_CLOSE)
  units = [int(number) for number in _UNIT.findall(spoken)]
  if opened and (not closed or not units or _UNIT.sub("", spoken).strip()):
    problems.append(
      "speech without units" if not units else "speech without an end" if not closed else "text in speech"
    )
  if UNITS_OPEN in after or UNITS_CLOSE in before or (not opened and UNITS_CLOSE in text):
    problems.append("markers of speech out of order")
  heard, chained, said = before.partition("[ta]")
  if not chained:
    heard, said = "", before
  said, marked, _ = said.partition("[ua]")
  if chained and bool(marked) != bool(opened):
    problems.append("[ua] without speech" if marked else "speech without [ua]")
  if "[ua]" in heard or "[tq]" in said:
    problems.append("markers out of order")
  return Reply(
    text=_bare(said + ("" if chained else after)),
    units=np.array(units, np.int32),
    heard_text=_bare(heard.replace("[tq]", "")),
    problem="; ".join(problems),
  )


def _bare(text: str) -> str:
  """Returns the text without the signs that separate it from the next marker."""
  return text.strip().removesuffix(";").strip()
