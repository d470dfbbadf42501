"""Mini-Omni's grid (arXiv 2408.16725): seven rows of codes and one of text, its five tasks, prompts and answers.

    audio 0..6   <in> ~ ~ ~ ~ <end> <answer> |  .  a0 a1 a2 ...            task A1A2; ~ is a place that a vector of
    text         <in> . . . . <end> <answer> | t0  t1 t2 <end> . .         the heard speech takes in rows 0 to 6

Task names are the original's: A is speech, T text, 1 the question, 2 the answer. The last column of a prompt tells the
task: `answer` in the audio rows asks for speech, `asr` in the text row for a transcript.

In front of a question stand the earlier turns, each as a written question with its answer, and behind its first column,
where a style is asked for, the three marks of that style; in the audio rows of both are pads:

    audio 0..6   .   .   .     .     .  .  .     .    <in>  .      .    .    ~ ~ ~ <end> <answer>
    text         <in> q  <end> <answer> a  a  <end>   <in> female happy high . . . <end> <answer>

Facts: inference.py and utils/snac_utils.py of github.com/gpt-omni/mini-omni. Ids follow from sizes, as they do there:
text ids of the tokenizer, five marks behind them, then for every layer its codes and its marks. The original has one
voice and one turn: marks of styles are ours, on unused entries of the text table. Deviations: the original writes `pad`
where we write `place`, an entry of the unused end of each codebook; both are overwritten by vectors before anything is
computed. T1A1, a text and the same text spoken, is the first stage's synthesis: its prompt is T1A2's.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.tokens.delays import Row, delay, entries, frames, ids, undelay
from omni_jax.tokens.grid import Grid, given, join, learned

AUDIO, TEXT = "audio", "text"

# Behind the tokenizer's ids, and behind the codes of each layer, in this order; what the released code never uses
# (`split`) and what only Mini-Omni2 does (`image`, `image_end`) keep their entries.
TEXT_MARKS = ("end", "pad", "input", "answer", "asr")
STYLE_MARKS = tuple(
  f"{part}-{value}"
  for part, values in (("gender", GENDERS), ("emotion", EMOTIONS), ("pitch", PITCHES))
  for value in values
)
AUDIO_MARKS = ("end", "pad", "input", "answer", "split", "image", "image_end")


class Task(enum.Enum):
  """What is asked and what is answered; the values are the kinds of target in a batch."""

  A1A2 = 1
  A1T2 = 2
  A1T1 = 3
  T1A2 = 4
  T1T2 = 5
  T1A1 = 6

  @property
  def hears(self) -> bool:
    """Whether the question is speech."""
    return self.name.startswith("A1")

  @property
  def speaks(self) -> bool:
    """Whether the answer is speech too."""
    return self.name[2] == "A"

  @property
  def learns_text(self) -> bool:
    """Whether the text row of the answer is learned; where a given text is spoken it is known."""
    return self is not Task.T1A1


TASKS = tuple(task.name for task in Task)
Exchange = tuple[Sequence[int], Sequence[int]]  # text ids of an earlier question and of its answer


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
  """What columns of an answer say: text ids int32 [N], codes int32 [F, layers], and what is wrong with them."""

  text: np.ndarray
  codes: np.ndarray
  problem: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniOmniLayout:
  """Sizes from which every id follows; the defaults are the release's.

  Attributes:
    num_pieces: text ids below this are the tokenizer's (151,643 pieces of Qwen2 and its unused rows).
    text_size: rows of the text table.
    num_codes: codes of a layer.
    codebook_size: rows of a layer in the table of codes.
    num_layers: rows of codes, codes of a frame.
    lead: columns by which the text is ahead of the first layer; each layer is one behind the one before it.
  """

  num_pieces: int = 151_936
  text_size: int = 152_000
  num_codes: int = 4096
  codebook_size: int = 4160
  num_layers: int = 7
  lead: int = 1

  def __post_init__(self):
    room = self.text_size - self.num_pieces, self.codebook_size - self.num_codes
    if room[0] < len(TEXT_MARKS) or room[1] <= len(AUDIO_MARKS) or self.num_layers < 1 or self.lead < 0:
      raise UserError(
        f"{self}",
        where="layout of Mini-Omni",
        rule=f"room for {len(TEXT_MARKS)} marks behind the text and {len(AUDIO_MARKS) + 1} behind the codes",
        remedy="raise text_size or codebook_size",
      )

  @property
  def audio_size(self) -> int:
    """Rows of the table of codes."""
    return self.num_layers * self.codebook_size

  @property
  def num_rows(self) -> int:
    """Rows of a grid."""
    return self.num_layers + 1

  @property
  def place(self) -> int:
    """Entry of the audio rows where a vector of speech stands."""
    return self.codebook_size - 1

  @property
  def image_place(self) -> int:
    """Entry of the audio rows where a vector of an image stands.

    Raises:
      UserError: the table of codes has no room for it.
    """
    if self.codebook_size - 2 < self.num_codes + len(AUDIO_MARKS):
      raise _bad(
        f"an image beside {self.codebook_size - self.num_codes} entries behind the codes",
        f"{len(AUDIO_MARKS)} marks and two kinds of places",
        "raise codebook_size, or ask without an image",
      )
    return self.codebook_size - 2

  @functools.cached_property
  def audio_rows(self) -> tuple[Row, ...]:
    """The rows of codes."""
    return tuple(
      Row(
        name=f"audio_{layer}",
        group=AUDIO,
        first=self.text_size + layer * self.codebook_size,
        size=self.codebook_size,
        num_codes=self.num_codes,
        delay=self.lead + layer,
        end=self.audio_mark("end"),
        pad=self.audio_mark("pad"),
      )
      for layer in range(self.num_layers)
    )

  @functools.cached_property
  def text_row(self) -> Row:
    """The row of text, the last one."""
    return Row(
      name="text",
      group=TEXT,
      first=0,
      size=self.text_size,
      num_codes=self.num_pieces,
      delay=0,
      end=self.text_mark("end"),
      pad=self.text_mark("pad"),
    )

  @property
  def rows(self) -> tuple[Row, ...]:
    """All rows from the top: codes, then text."""
    return (*self.audio_rows, self.text_row)

  def text_mark(self, name: str) -> int:
    """Returns the entry of a mark in the text row."""
    return self.num_pieces + (*TEXT_MARKS, *STYLE_MARKS).index(name)

  def audio_mark(self, name: str) -> int:
    """Returns the entry of a mark in the audio rows."""
    return self.num_codes + AUDIO_MARKS.index(name)

  def style_marks(self, style: Style) -> list[int]:
    """Returns the entries of a style in the text row: gender, emotion, pitch.

    Raises:
      UserError: the text table has no room for styles.
    """
    if self.text_size - self.num_pieces < len(TEXT_MARKS) + len(STYLE_MARKS):
      raise _bad(
        f"a style in a layout with {self.text_size - self.num_pieces} entries behind the text",
        f"{len(TEXT_MARKS)} marks and {len(STYLE_MARKS)} of styles",
        "raise text_size, or ask without a style",
      )
    parts = zip(("gender", "emotion", "pitch"), (style.gender, style.emotion, style.pitch), strict=True)
    return [self.text_mark(f"{part}-{value}") for part, value in parts]

  def prompt(
    self,
    task: Task,
    *,
    text: Sequence[int] = (),
    num_frames: int = 0,
    style: Style | None = None,
    past: Sequence[Exchange] = (),
    image_places: int = 0,
  ) -> np.ndarray:
    """Returns the ids int32 [R, T] of a question, up to where the answer begins.

    Args:
      task: what is asked for.
      text: ids of a written question.
      num_frames: vectors of a spoken one.
      style: in which it is to be answered aloud.
      past: earlier turns, oldest first, as text.
      image_places: vectors of an image that the question is about.

    Raises:
      UserError: no question, both kinds of question, ids that are no text, or a style that is not to be heard.
    """
    before = [part for turn in past for part in self._past(*turn)]
    question = self._question(task, text, num_frames, style)
    return np.concatenate([*before, self._with_image(question, image_places) if image_places else question], axis=1)

  def _with_image(self, question: np.ndarray, image_places: int) -> np.ndarray:
    """Returns a question with the columns of an image in front.

    The original (inference_vision.py of gpt-omni/mini-omni2) has only pads in the text row of a spoken question up to
    its last column, and lays the vectors of speech one column too early, over `input`, so that a pad stays behind them:

        audio   <image> ~ ~ <image end> <in> ~ ~ ~ <end> <answer>    as written, and with ~ where vectors come to stand
                <image> ~ ~ <image end> ~ ~ ~  .   <end> <answer>
        text    .       . . .           .    . . . .     <answer>
    """
    marks = self.audio_mark("image"), self.audio_mark("image_end")
    image = np.array([marks[0], *[self.image_place] * image_places, marks[1]])
    own = entries(question, self.rows)
    is_place = own[0] == self.place
    if is_place.any():
      own[:-1, np.flatnonzero(is_place)[0] - 1 : -3] = self.place
      own[:-1, -3] = self.audio_mark("pad")
      learnable = (own[-1] >= self.num_pieces + len(TEXT_MARKS)) & (own[-1] < self.text_size)  # marks of styles stay
      own[-1, :-1] = np.where(learnable, own[-1], self.text_mark("pad"))[:-1]
    columns = np.repeat(image[None], self.num_rows, axis=0)
    columns[-1] = self.text_mark("pad")
    return ids(np.concatenate([columns, own], axis=1), self.rows)

  def _past(self, text: Sequence[int], answer: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the columns of an earlier turn; a side that was nothing but silence is an empty text."""
    question = self._question(Task.T1T2, text, 0, None) if len(text) else self._asked([], [], Task.T1T2)
    return question, self.answer(Task.T1T2, text=answer).tokens

  def _question(self, task: Task, text: Sequence[int], num_frames: int, style: Style | None) -> np.ndarray:
    """Returns the columns of the last question."""
    if task.hears != (num_frames > 0) or task.hears == (len(text) > 0):
      raise _bad(
        f"{num_frames} vectors and {len(text)} text ids for {task.name}",
        "a spoken question has vectors, a written one text",
        "choose the task that fits the question",
      )
    if style is not None and not task.speaks:
      raise _bad(f"a style for {task.name}", "what is only written has no style", "leave the style out")
    marks = [] if style is None else self.style_marks(style)
    return self._asked(marks, num_frames if task.hears else self._pieces(text), task)

  def _asked(self, marks: list[int], asked: Sequence[int] | int, task: Task) -> np.ndarray:
    """Returns the columns of a question: its text, or the number of places for its vectors."""
    pad = self.audio_mark("pad")
    last = self.audio_mark("answer") if task.speaks else pad
    if isinstance(asked, int):
      audio = [self.audio_mark("input"), *[pad] * len(marks), *[self.place] * asked, self.audio_mark("end"), last]
      words = [self.text_mark("pad")] * asked
    else:
      audio = [*[pad] * (len(marks) + len(asked) + 2), last]
      words = list(asked)
    asks = self.text_mark("asr" if task is Task.A1T1 else "answer")
    text = [self.text_mark("input"), *marks, *words, self.text_mark("end"), asks]
    return ids(np.array([*[audio] * self.num_layers, text], np.int32), self.rows)

  def answer(self, task: Task, *, text: Sequence[int], codes: np.ndarray | None = None) -> Grid:
    """Returns the columns of an answer, and which of their entries are learned.

    Text is learned up to its end, codes with the pads around them up to the end of the last layer: what stands beyond
    is decided by the decoding, not by the model.

    Args:
      task: what was asked for.
      text: ids of the words.
      codes: int [F, layers] of an answer that is spoken.

    Raises:
      UserError: codes where none are asked for, none where they are, or of another shape or range.
    """
    if task.speaks != (codes is not None):
      raise _bad(
        f"{task.name} {'with' if codes is not None else 'without'} codes",
        "an answer has codes where the task speaks",
        "choose the task that fits the record, or encode the speech first",
      )
    streams = [None] * self.num_layers if codes is None else list(self._layers(codes))
    columns = delay([*streams, self._pieces(text)], self.rows)
    places = np.arange(columns.shape[1])
    learns = np.zeros(columns.shape, bool)
    learns[-1] = (places <= len(text)) & task.learns_text
    if codes is not None:
      learns[:-1] = places <= self.audio_rows[-1].delay + len(codes)
    return learned(ids(columns, self.rows), where=learns)

  def sample(
    self,
    task: Task,
    *,
    text: Sequence[int] = (),
    num_frames: int = 0,
    answer: Sequence[int],
    codes: np.ndarray | None = None,
    style: Style | None = None,
    past: Sequence[Exchange] = (),
  ) -> Grid:
    """Returns a question and its answer; arguments as for `prompt` and `answer`."""
    question = given(self.prompt(task, text=text, num_frames=num_frames, style=style, past=past))
    return join(question, self.answer(task, text=answer, codes=codes))

  def read(self, columns: np.ndarray) -> Answer:
    """Returns what entries int32 [R, T] of an answer say; it never fails, and says what is wrong."""
    streams, ended = undelay(columns, self.rows)
    problems = [] if ended[-1] else ["the text does not end"]
    lengths = {len(stream) for stream in streams[:-1]}
    if any(lengths):
      problems += [] if len(lengths) == 1 else [f"layers of {min(lengths)} to {max(lengths)} codes"]
      problems += [] if ended[-2] else ["the speech does not end"]
    return Answer(text=streams[-1], codes=frames(streams[:-1]), problem="; ".join(problems))

  def _layers(self, codes: np.ndarray) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != self.num_layers or not len(codes):
      raise _bad(
        f"codes of shape {codes.shape}",
        f"at least one frame of {self.num_layers} codes each",
        "encode the speech with the codec of this layout",
      )
    return codes.T

  def _pieces(self, text: Sequence[int]) -> list[int]:
    outside = [int(i) for i in text if not 0 <= i < self.num_pieces]
    if outside:
      raise _bad(
        f"text id {outside[0]}", f"text ids are 0 to {self.num_pieces - 1}", "use the tokenizer of this layout"
      )
    return [int(i) for i in text]


MINI_OMNI = MiniOmniLayout()


def _bad(what: str, rule: str, remedy: str) -> UserError:
  return UserError(what, where="Mini-Omni's grid", rule=rule, remedy=remedy)
