"""SpeechInstruct out of any corpus of speech and text: records -> the three kinds of sequences that SpeechGPT learns.

| kind          | view            | the question                  | the answer                       |
| ------------- | --------------- | ----------------------------- | -------------------------------- |
| `lines`       | any             | nothing                       | the units of a turn with speech  |
| `cross_modal` | `recognise`     | a description and speech      | its transcript                   |
| `cross_modal` | `synthesise`    | a description and text        | units                            |
| both below    | `text`          | text, or nothing              | text                             |
| `chain`       | `dialogue`      | speech                        | transcript, text, units          |
| `chain`       | `written_reply` | speech                        | transcript, text                 |
| `chain`       | `spoken_reply`  | text                          | text, units                      |

The original had GPT-4 write descriptions and a text-to-unit model speak; here descriptions are a list and units come
from recordings, made by text-to-speech where there are none, through the speech tokenizer. Batches are those of
`batches.sequences` without images. Deviation: the first stage's lines are packed whole into rows, where the original
cuts one endless text every 1024 tokens and lets lines see each other.
"""

import dataclasses
import enum
import zlib
from collections.abc import Sequence
from pathlib import Path

import grain

from omni_jax.batches.meanings import vocabulary_meanings
from omni_jax.batches.mixture import mix, quarantines
from omni_jax.batches.packing import Reading, pack
from omni_jax.batches.pictures import Pictures
from omni_jax.batches.planned import Planned
from omni_jax.batches.sources import ImageSize, Sample, Size, Source, learned
from omni_jax.batches.views import exchange, lacks, turn_units
from omni_jax.core.config import to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.grid import Grid, truncate
from omni_jax.tokens.speech_gpt import (
  NUM_UNITS,
  SAY,
  TRANSCRIBE,
  Chain,
  Side,
  SpeechGPTWriter,
  SpeechTemplate,
  speech_gpt_vocabulary,
)
from omni_jax.tokens.vocabulary import UNIT

_NO_IMAGES = ImageSize(patch=1, merge=1, min_pixels=1, max_pixels=1)  # nothing is cut
_NOTHING = Pictures((), {})


class Kind(enum.Enum):
  """Which stage's sequences are written."""

  LINES = enum.auto()
  CROSS_MODAL = enum.auto()
  CHAIN = enum.auto()


_CHAINS = {
  "dialogue": Chain.SPEECH_TO_SPEECH,
  "written_reply": Chain.SPEECH_TO_TEXT,
  "spoken_reply": Chain.TEXT_TO_SPEECH,
  "text": Chain.TEXT_TO_TEXT,
}
_VIEWS = {
  Kind.LINES: ("recognise", "synthesise", *_CHAINS),
  Kind.CROSS_MODAL: ("recognise", "synthesise", "text"),
  Kind.CHAIN: tuple(_CHAINS),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstructBatches:
  """What a stage of a SpeechGPT reads.

  Attributes:
    text: folder of the text tokenizer.
    kind: of sequences.
    template: what stands around questions and answers.
    sources: what is read, in which shares.
    rows: of a batch.
    length: tokens of a row; a longer sample is cut, as in the original.
    quarantine: file for records that cannot be used.
    seed: of the order.
    num_units: classes of speech.
    descriptions: of recognition and of synthesis; each record keeps its own.
    requests: whether a chain's question says how to answer; without, as in the released data, it is speech or text
      alone.
    max_bad_share: of a source's records that may be put aside.
  """

  text: Path
  kind: Kind
  template: SpeechTemplate
  sources: tuple[Source, ...]
  rows: int
  length: int
  quarantine: Path
  seed: int
  num_units: int = NUM_UNITS
  descriptions: tuple[tuple[str, ...], tuple[str, ...]] = (TRANSCRIBE, SAY)
  requests: bool = True
  max_bad_share: float = 0.01

  def __post_init__(self):
    allowed = _VIEWS[self.kind]
    strange = [view for source in self.sources for view in source.views if view not in allowed]
    if not self.sources or strange or self.rows < 1 or self.length < 2 or not all(self.descriptions):
      raise UserError(
        f"{self.rows} rows of {self.length} tokens, {len(self.sources)} sources"
        + (f", views {', '.join(strange)}" if strange else ""),
        where="InstructBatches",
        rule=f"a source, a row of two tokens, descriptions; a view of {self.kind.name} is one of {', '.join(allowed)}",
        remedy="correct the config",
      )

  def writer(self) -> SpeechGPTWriter:
    """Returns the writer and reader of sequences.

    Raises:
      UserError: the tokenizer is missing, damaged, or has other units.
    """
    tokenizer = load_tokenizer(self.text)
    vocabulary = speech_gpt_vocabulary(tokenizer, num_units=self.num_units)
    return SpeechGPTWriter(vocabulary=vocabulary, tokenizer=tokenizer, template=self.template)

  def open(self) -> grain.IterDataset:
    """Returns endless batches.

    Raises:
      UserError: a set or the tokenizer is missing; while reading: too many records cannot be used.
    """
    samples = mix(
      self.sources,
      writer=self.read_as().writer,
      quarantine=quarantines(self.quarantine, max_share=self.max_bad_share),
      lengths={"tokens": self.length},
      cache_bytes=0,
      seed=self.seed,
    )
    return pack(samples, rows=self.rows, length=self.length, images=_NO_IMAGES, pieces=0)

  def read_as(self) -> Reading:
    """Returns how records are written and laid into rows.

    Raises:
      UserError: as `writer`.
    """
    writer = self.writer()
    key = (writer.vocabulary.fingerprint(), self.kind, self.template, self.descriptions, self.requests)
    return Reading(
      lambda source: InstructWriter(source, batches=self, writer=writer),
      [*to_json(key), self.length],
      _NO_IMAGES,
      0,
      lambda: vocabulary_meanings(writer.vocabulary, writer.tokenizer),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedInstruct(Planned, InstructBatches):
  """What a stage of a SpeechGPT reads, in a planned order (`batches.planned`)."""


class InstructWriter:
  """Turns the records of one source into samples."""

  def __init__(self, source: Source, *, batches: InstructBatches, writer: SpeechGPTWriter):
    """Keeps what is the same for every record."""
    self._source, self._batches, self._writer = source, batches, writer
    self._kinds = writer.vocabulary.kinds()

  def __call__(self, example: Example, *, hear_style: bool) -> Sample:
    """Returns the sample of `example`; styles are not written, so `hear_style` changes nothing.

    Raises:
      UserError: the record lacks what the view needs.
    """
    return self.sample(self.measure(example, hear_style=hear_style).grid, _NOTHING)

  def shown(self, example: Example) -> list[bytes]:
    """Returns nothing: units are tokens."""
    return []

  def measure(self, example: Example, *, hear_style: bool) -> Size:
    """Returns how long the sample is, and its grid.

    Raises:
      UserError: as the sample itself.
    """
    del hear_style
    grid = truncate(self.grid(example), self._batches.length + 1)
    return Size(grid, len(grid) - 1, 0, 0, 0, int((self._kinds[grid.tokens[0, :-1]] == UNIT).sum()))

  def sample(self, grid: Grid, pictures: Pictures) -> Sample:
    """Returns the sample of a grid."""
    del pictures
    return learned(grid, kinds=self._kinds, source=self._source, images={})

  def grid(self, example: Example) -> Grid:
    """Returns the sequence of a record."""
    writer, view = self._writer, self._source.view
    if self._batches.kind is Kind.LINES:
      return writer.line(turn_units(_last_spoken(example)))
    if view == "recognise":
      turn = example.turns[0]
      described = self._description(example, self._batches.descriptions[0])
      return writer.exchange(writer.recognition(turn_units(turn), description=described), [turn.text])
    if view == "synthesise":
      turn = example.turns[-1]
      described = self._description(example, self._batches.descriptions[1])
      return writer.exchange(writer.synthesis(turn.text, description=described), writer.speech(turn_units(turn)))
    if self._batches.kind is Kind.CROSS_MODAL and len(example.turns) == 1:
      return writer.exchange([], [example.turns[0].text])  # said without a question
    user, assistant = exchange(example)
    if self._batches.kind is Kind.CROSS_MODAL:
      return writer.exchange([user.text], [assistant.text])
    chain = _CHAINS[view]
    question = Side(user.text, turn_units(user) if chain.hears else None)
    answer = Side(assistant.text, turn_units(assistant) if chain.speaks else None)
    asked = writer.request(chain, question)
    return writer.exchange(asked if self._batches.requests else asked[1:-1], writer.chain(chain, question, answer))

  def _description(self, example: Example, descriptions: Sequence[str]) -> str:
    return descriptions[zlib.crc32(example.id.encode()) % len(descriptions)]


def _last_spoken(example: Example) -> Turn:
  spoken = [turn for turn in example.turns if len(turn.units)]
  if not spoken:
    raise lacks("no turn with units", "a line is speech")
  return spoken[-1]
