"""An assistant on a model of several rows: hears or reads a question, writes and speaks the answer as it comes.

A stream waits for nothing but what sound needs: a frame is whole when the last layer has written its code, and final
when the codec's context behind it is known. Every sample equals that of the answer decoded as one, and the frames at
the end are spoken (the original decodes each four frames by themselves and drops up to three).
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from omni_jax.batches.hearing import Recordings
from omni_jax.core.errors import UserError
from omni_jax.generate.engine import Prompt
from omni_jax.generate.row_engine import SPEAK, WRITE, RowEngine
from omni_jax.generate.streaming import Piece, Words
from omni_jax.tokens.delays import FrameStream
from omni_jax.tokens.mini_omni import MiniOmniLayout, Task
from omni_jax.tokens.text import TextTokenizer

_MOST_COLUMNS = 1024  # of an answer, 87 seconds of speech
_BLOCK = 4  # columns between two looks at a stream
_SILENT = {Task.A1A2: Task.A1T2, Task.T1A2: Task.T1T2}  # the second of a pair, which only writes


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RowQuestion:
  """What is asked: `text`, or speech `waveform` float [A] at 16 kHz; and the `task` that says how to answer."""

  task: Task
  text: str = ""
  waveform: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RowAnswer:
  """What is answered: `text`, `codes` int32 [F, layers], the `waveform` float32 [A] of the codec, and any `problem`."""

  text: str
  codes: np.ndarray
  waveform: np.ndarray
  problem: str = ""


class RowAssistant:
  """A model, its text tokenizer and its codec."""

  def __init__(
    self,
    model: Any,
    *,
    tokenizer: TextTokenizer,
    codec: Any,
    paired: bool = False,
    max_columns: int = 2048,
  ):
    """Keeps the parts.

    Args:
      model: as `models.mini_omni.MiniOmni`.
      tokenizer: of the text.
      codec: has `decode(codes)` and `stream(chunk_frames=)`, as `speech.snac.SNAC`.
      paired: whether a spoken answer is written by a second row of the batch that does not speak.
      max_columns: most columns of prompt and answer together.
    """
    self._layout: MiniOmniLayout = model.config.layout
    self._tokenizer, self._codec, self._paired, self._max_columns = tokenizer, codec, paired, max_columns
    self._engine = RowEngine(model, layout=self._layout, num_pieces=tokenizer.num_pieces, max_columns=max_columns)
    hearing = model.config.hearing
    self._recordings = None if hearing is None else Recordings(layout=hearing.layout)

  def answer(self, question: RowQuestion, *, max_new_columns: int | None = None) -> RowAnswer:
    """Returns the whole answer.

    Raises:
      UserError: a question that does not fit its task, is too long, or is speech for a model that does not hear.
    """
    blocks = list(self._columns(question, max_new_columns, block=_BLOCK))
    read = self._layout.read(np.concatenate(blocks, axis=1))
    sound = self._codec.decode(read.codes) if len(read.codes) else np.zeros(0, np.float32)
    text = self._tokenizer.decode(read.text.tolist())
    return RowAnswer(text=text, codes=read.codes, waveform=np.asarray(sound, np.float32), problem=read.problem)

  def stream(
    self, question: RowQuestion, *, max_new_columns: int | None = None, chunk_frames: int = 1, block: int = 1
  ) -> Iterator[Piece]:
    """Returns the answer piece by piece, text and samples as soon as they are certain.

    Args:
      question: as for `answer`.
      max_new_columns: an answer that has not ended is cut here.
      chunk_frames: frames of a piece of sound.
      block: columns between two looks at the model.
    """
    voice, frames = self._codec.stream(chunk_frames=chunk_frames), FrameStream(self._layout.audio_rows)
    words, row = Words(self._tokenizer), self._layout.text_row
    ended = False
    for columns in self._columns(question, max_new_columns, block=block):
      for entry in columns[-1].tolist():
        ended |= entry >= row.num_codes
        words.ids += [] if ended else [entry]
      news = words.news()
      if news:
        yield Piece(text=news)
      codes = frames.push(columns[:-1])
      samples = voice.push(codes) if len(codes) else np.zeros(0, np.float32)
      if len(samples):
        yield Piece(samples=samples)
    rest = voice.finish()
    if len(rest):
      yield Piece(samples=rest)

  def _columns(self, question: RowQuestion, max_new_columns: int | None, *, block: int) -> Iterator[np.ndarray]:
    """Returns the columns of the answer, entries int32 [R, N], as they come."""
    prompts = self._prompts(question)
    paired = len(prompts) == 2
    room = self._max_columns - len(prompts[0].tokens)
    # A question that leaves no room asks for one column too many, which the engine refuses.
    most = max(min(_MOST_COLUMNS, room), 1) if max_new_columns is None else max_new_columns
    for columns in self._engine.stream(prompts, max_new_columns=most, paired=paired, block=block):
      yield columns[0][:, columns[0, -1] >= 0]

  def _prompts(self, question: RowQuestion) -> Sequence[Prompt]:
    images, places = {}, 0
    if question.waveform is not None:
      if self._recordings is None:
        raise UserError(
          "a spoken question", where="question", rule="this model has no encoder of speech", remedy="write it"
        )
      pictures = self._recordings.read([question.waveform])
      images, places = self._recordings.row(pictures), pictures.places[0]
    text = self._tokenizer.encode(question.text)
    pair = self._paired and question.task in _SILENT
    tasks = [question.task, _SILENT[question.task]] if pair else [question.task]
    return [
      Prompt(
        tokens=self._layout.prompt(task, text=text, num_frames=places).T,
        state=SPEAK if task.speaks else WRITE,
        images=images,
      )
      for task in tasks
    ]
