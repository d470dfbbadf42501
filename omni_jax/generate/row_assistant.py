"""Mini-Omni as an assistant (arXiv 2408.16725): hears or reads a question, writes and speaks the answer as it comes.

A stream waits for nothing but what sound needs: a frame is whole when the last layer has written its code, and final
when the codec's context behind it is known. Every sample equals that of the answer decoded as one, and the frames at
the end are spoken (the original decodes each four frames by themselves and drops up to three).

Earlier turns stand before a question as text, what was only spoken as the model itself writes it down, once for each
`Question`. A model that was trained with styles (`GridBatches.styles`) is asked for them by marks in the prompt; others
have one voice.

A text is read aloud as the first stage learned it: by the prompt of a typed question, the text row being given.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from omni_jax.batches.grids import GridBatches
from omni_jax.batches.hearing import Recordings
from omni_jax.batches.pictures import Image
from omni_jax.checkpoint.card import stage_data_of
from omni_jax.checkpoint.store import load_model
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.engine import Prompt
from omni_jax.generate.exchange import (
  MAX_TRANSCRIPT,
  READINGS,
  Ability,
  Answer,
  Event,
  Question,
  SpokenText,
  check_asked,
  check_waveform,
  check_words,
  cut_problem,
)
from omni_jax.generate.row_engine import SPEAK, WRITE, RowEngine
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.speech_stages import VOCODER, load_codec
from omni_jax.generate.streaming import Stopwatch, Words
from omni_jax.prepare.audio import SAMPLE_RATE, resample
from omni_jax.prepare.images import decode_image
from omni_jax.prepare.tiles import cropped
from omni_jax.speech.interface import Manner
from omni_jax.tokens.delays import FrameStream
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.mini_omni import Exchange, MiniOmniLayout, Task
from omni_jax.tokens.text import TextTokenizer

_MOST_COLUMNS = 1024  # of an answer, 87 seconds of speech
_SILENT = {Task.A1A2: Task.A1T2, Task.T1A2: Task.T1T2}  # the second of a pair, which only writes


class RowAssistant:
  """A model of several rows, its text tokenizer and its codec."""

  def __init__(
    self,
    model: Any,
    *,
    text: TextTokenizer,
    codec: Any,
    paired: bool = True,
    max_columns: int = 2048,
    sampling: Sampling | None = None,
    styles: bool = False,
  ):
    """Keeps the parts; `load` makes them from a working folder.

    Args:
      model: as `models.mini_omni.MiniOmni`.
      text: tokenizer of the text.
      codec: has `decode(codes)` and `stream(chunk_frames=)`, as `speech.snac.SNAC`.
      paired: whether a spoken answer is written by a second row of the batch that does not speak.
      max_columns: most columns of prompt and answer together.
      sampling: how entries are chosen.
      styles: whether it learned to answer in the style that is asked for.
    """
    self._codec, self._styles = codec, styles
    # The words of spoken questions of earlier turns, for as long as somebody keeps the question.
    self._written_down: WeakKeyDictionary[Question, str] = WeakKeyDictionary()
    self._layout: MiniOmniLayout = model.config.layout
    self._text, self._paired, self._max_columns = text, paired, max_columns
    self._engine = RowEngine(
      model, layout=self._layout, num_pieces=text.num_pieces, max_columns=max_columns, sampling=sampling
    )
    hearing, self._seeing = model.config.hearing, model.config.seeing
    self._recordings = None if hearing is None else Recordings(layout=hearing.layout)

  @classmethod
  def load(
    cls,
    workdir: Path,
    *,
    stage: str = "mini_omni",
    sampling: Sampling | None = None,
    tokenizer: str | None = None,
    vocoder: str = VOCODER,
    paired: bool = True,
  ) -> "RowAssistant":
    """Returns the assistant of the newest checkpoints in `workdir/stages`.

    Args:
      workdir: the working folder.
      stage: of the language model.
      sampling: how entries are chosen.
      tokenizer: stage of the codec, or of the tokenizer whose units are read by digits; by default what it learned.
      vocoder: stage that speaks a tokenizer's units.
      paired: whether a spoken answer is written by a second row of the batch.

    Raises:
      UserError: a stage is missing or damaged, or tokenizer or codec are not those of the model.
    """
    workdir = Path(workdir)
    folder = workdir / "stages" / stage
    rule, remedy = "this assistant needs a stage of rows of codes and text", "choose a stage such as mini_omni"
    data = stage_data_of(folder, GridBatches, rule=rule, remedy=remedy)
    _, model = load_model(folder)
    text, layout = load_tokenizer(workdir / "text"), model.config.layout
    codec = load_codec(workdir, stage=tokenizer or data.codec, vocoder=vocoder)
    sizes = (text.num_pieces <= layout.num_pieces, codec.num_codebooks, codec.codebook_size)
    if sizes != (True, layout.num_layers, layout.num_codes):
      raise UserError(
        f"{text.num_pieces} text pieces, {codec.num_codebooks} codes a frame out of {codec.codebook_size}",
        where=folder,
        rule=f"the model has {layout.num_pieces} pieces, {layout.num_layers} codes a frame out of {layout.num_codes}",
        remedy="take the tokenizer and the codec that the model was trained with",
      )
    options: dict[str, Any] = {"paired": paired, "max_columns": data.length, "sampling": sampling}
    return cls(model, text=text, codec=codec, styles=data.styles, **options)

  @property
  def sample_rate(self) -> int:
    """Samples a second of what it says."""
    return getattr(self._codec, "vocoder", self._codec).sample_rate

  @property
  def abilities(self) -> frozenset[Ability]:
    """It remembers what was said, as text; it sees if it has an encoder of images, and speaks in styles it learned."""
    able = {Ability.SPEAKS_STYLES: self._styles, Ability.SEES: self._seeing is not None, Ability.REMEMBERS: True}
    return frozenset(ability for ability, can in able.items() if can)

  def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the words of each recording, float [A] at 16 kHz.

    Raises:
      UserError: a recording that is longer than the encoder's window, or a model without an encoder of speech.
    """
    prompts = [self._prompt(Task.A1T1, Question(waveform=waveform)) for waveform in waveforms]
    most = min(self._most(prompts), MAX_TRANSCRIPT)
    return [self._words(columns) for columns in self._engine.generate(prompts, max_new_columns=most)]

  def synthesise(
    self, texts: Sequence[tuple[str, Style]], *, readings: int = READINGS, manner: Manner = None
  ) -> list[SpokenText]:
    """Returns each text said, read once, in its style if the model learned styles.

    Raises:
      UserError: an empty text, or a manner of a vocoder, which codes do not know.
    """
    del readings
    if manner is not None:
      raise UserError(
        f"the manner {manner!r}",
        where="synthesis",
        rule="codes hold the voice",
        remedy="leave it out, or choose a stage that learned styles and a style",
      )
    check_words(text for text, _ in texts)
    prompts, styles = [], [style if self._styles else None for _, style in texts]
    for (text, _), style in zip(texts, styles, strict=True):
      words = np.array([*self._text.encode(text), self._layout.text_row.end], np.int32)
      prompts.append(dataclasses.replace(self._prompt(Task.T1A2, Question(text=text, style=style)), given=words))
    most = self._most(prompts)
    spoken = []
    for columns, style in zip(self._engine.generate(prompts, max_new_columns=most), styles, strict=True):
      read = self._layout.read(columns)
      sound, problem = self._decode(read.codes, style), self._problem(columns, read.problem, most)
      spoken.append(SpokenText(units=read.codes, waveform=sound, problem=problem))
    return spoken

  def resynthesise(self, recordings: Sequence[tuple[np.ndarray, Style]]) -> list[np.ndarray]:
    """Returns each recording, float [A] at 16 kHz, after the codec; styles are not heard."""
    heard = [check_waveform(waveform) for waveform, _ in recordings]
    rate = self._codec.sample_rate
    if rate != SAMPLE_RATE:
      heard = [resample(waveform, sample_rate=SAMPLE_RATE, to=rate) for waveform in heard]
    return [self._decode(self._codec.encode(waveform)) for waveform in heard]

  def answer(self, questions: Sequence[Question], *, max_new_columns: int | None = None) -> list[Answer]:
    """Returns the answer to each question; a spoken one is answered aloud, a typed one where a style is asked for.

    Raises:
      UserError: nothing asked, an image or speech for a model that does not see or hear, or a question too long.
    """
    check_asked(questions, abilities=self.abilities)
    watch = Stopwatch()
    tasks = [_task(question) for question in questions]
    answers: list[Answer] = [Answer(text="")] * len(questions)
    for aloud in (True, False):
      rows = [row for row, task in enumerate(tasks) if task.speaks == aloud]
      asked = [(tasks[row], questions[row]) for row in rows]
      for row, answer in zip(rows, self._answers(asked, max_new_columns, watch), strict=True):
        answers[row] = answer
    timings = watch.rounded()
    return [dataclasses.replace(answer, timings=timings) for answer in answers]

  def stream(
    self, question: Question, *, max_new_columns: int | None = None, chunk_frames: int = 1, block: int = 1
  ) -> Iterator[Event]:
    """Returns the answer piece by piece, text and samples as soon as they are certain.

    Args:
      question: as for `answer`.
      max_new_columns: an answer that has not ended is cut here.
      chunk_frames: frames of a piece of sound.
      block: columns between two looks at the model.
    """
    check_asked([question], abilities=self.abilities)
    watch, row = Stopwatch(), self._layout.text_row
    style = self._style(question)
    voice = self._codec.stream(*([style] if style else []), chunk_frames=chunk_frames)
    frames = FrameStream(self._layout.audio_rows)
    words, ended, spoken, seen, sound = Words(self._text), False, 0, [], []
    with watch.stage("hear"):
      prompts = self._pair(_task(question), question)
    most = self._most(prompts, max_new_columns)
    blocks = self._engine.stream(prompts, max_new_columns=most, paired=len(prompts) == 2, block=block)
    for columns in watch.iterate("answer", blocks):
      new = columns[0][:, columns[0, -1] >= 0]
      seen.append(new)
      for entry in new[-1].tolist():
        ended |= entry >= row.num_codes
        words.ids += [] if ended else [entry]
      news = words.news()
      if news:
        yield Event(text=news)
      with watch.stage("vocoder"):
        codes = frames.push(new[:-1])
        samples = voice.push(codes) if len(codes) else np.zeros(0, np.float32)
      spoken += len(codes)
      if len(samples):
        sound.append(samples)
        yield Event(samples=samples)
    held_back = words.news(whole=True)
    if held_back:
      yield Event(text=held_back)
    with watch.stage("vocoder"):
      rest = voice.finish() if spoken else np.zeros(0, np.float32)
    if len(rest):
      sound.append(rest)
      yield Event(samples=rest)
    whole = np.concatenate([np.zeros(0, np.float32), *sound])
    answer = self._read(np.concatenate(seen, axis=1), most, style=style, waveform=whole)
    timings = watch.rounded()
    yield Event(answer=dataclasses.replace(answer, timings=timings), timings=timings)

  def _answers(
    self, asked: Sequence[tuple[Task, Question]], max_new_columns: int | None, watch: Stopwatch
  ) -> list[Answer]:
    """Returns the answers to questions of which all speak or all only write."""
    with watch.stage("hear"):
      prompts = [self._pair(*pair) for pair in asked]
    if not prompts:
      return []
    step = len(prompts[0])
    flat = [prompt for pair in prompts for prompt in pair]
    most = self._most(flat, max_new_columns)
    with watch.stage("answer"):
      columns = self._engine.generate(flat, max_new_columns=most, paired=step == 2)[::step]
    with watch.stage("vocoder"):
      pairs = zip(columns, asked, strict=True)
      return [self._read(one, most, style=self._style(question)) for one, (_, question) in pairs]

  def _read(self, columns: np.ndarray, most: int, *, style: Style | None, waveform: np.ndarray | None = None) -> Answer:
    """Returns what the columns of an answer say; decodes its sound unless it is given."""
    read = self._layout.read(columns)
    return Answer(
      text=self._text.decode(read.text.tolist()),
      style=style if len(read.codes) else None,
      units=read.codes,
      waveform=self._decode(read.codes, style) if waveform is None else waveform,
      problem=self._problem(columns, read.problem, most),
    )

  def _problem(self, columns: np.ndarray, problem: str, most: int) -> str:
    return "; ".join(part for part in (problem, cut_problem(columns, most=most) if problem else "") if part)

  def _words(self, columns: np.ndarray) -> str:
    return self._text.decode(self._layout.read(columns).text.tolist())

  def _decode(self, codes: np.ndarray, style: Style | None = None) -> np.ndarray:
    manner = [style] if style else []
    return np.asarray(self._codec.decode(codes, *manner), np.float32) if len(codes) else np.zeros(0, np.float32)

  def _style(self, question: Question) -> Style | None:
    """Returns the style that an answer is asked for in, None where it is silent or there is one voice."""
    return question.style if self._styles and _task(question).speaks else None

  def _most(self, prompts: Sequence[Prompt], most: int | None = None) -> int:
    """Returns how many columns an answer may have: `most`, or all that there is room for."""
    room = self._max_columns - max((len(prompt.tokens) for prompt in prompts), default=0)
    # A question that leaves no room asks for one column too many, which the engine refuses.
    return max(min(_MOST_COLUMNS, room), 1) if most is None else most

  def _pair(self, task: Task, question: Question) -> list[Prompt]:
    """Returns the prompt of a question, in pairs that of the row that only writes too."""
    tasks = [task, _SILENT[task]] if self._paired and task in _SILENT else [task]
    past = [self._past(*turn) for turn in question.history]
    return [self._prompt(one, question, past) for one in tasks]

  def _past(self, question: Question, answer: Answer) -> Exchange:
    """Returns an earlier turn as text; what was only spoken is written down."""
    words = question.text or answer.heard_text
    if not words and question.waveform is not None:
      if question not in self._written_down:
        (self._written_down[question],) = self.recognise([question.waveform])
      words = self._written_down[question]
    return self._text.encode(words), self._text.encode(answer.text)

  def _prompt(self, task: Task, question: Question, past: Sequence[Exchange] = ()) -> Prompt:
    """Returns the prompt with as many earlier turns as leave room for an answer, the last ones."""
    images: dict[str, np.ndarray] = {}
    places = 0
    if question.waveform is not None:
      if self._recordings is None:
        raise UserError(
          "a spoken question", where="question", rule="this model has no encoder of speech", remedy="write it"
        )
      pictures = self._recordings.read([check_waveform(question.waveform)])
      images, places = dict(self._recordings.row(pictures)), pictures.places[0]
    shown = 0
    if question.image is not None and self._seeing is not None:
      images |= {"tiles": _tile(question.image, side=self._seeing.side)}
      shown = self._seeing.places
    text = [] if task.hears else self._text.encode(question.text)
    style = question.style if self._styles and task.speaks else None
    while True:
      options = {"num_frames": places, "style": style, "past": past, "image_places": shown}
      tokens = self._layout.prompt(task, text=text, **options).T
      if not past or len(tokens) + min(_MOST_COLUMNS, self._max_columns // 2) <= self._max_columns:
        return Prompt(tokens=tokens, state=SPEAK if task.speaks else WRITE, images=images)
      past = past[1:]


def _tile(image: Image | Sequence[Image], *, side: int) -> np.ndarray:
  """Returns the middle square of an image, uint8 [1, side, side, 3].

  Raises:
    UserError: several images, or bytes that are none.
  """
  if not isinstance(image, bytes | np.ndarray):
    raise UserError(
      f"{len(image)} images", where="question", rule="this system sees one image", remedy="show one at a time"
    )
  return cropped(decode_image(image) if isinstance(image, bytes) else image, side=side)[None]


def _task(question: Question) -> Task:
  """Returns how a question is answered; whether it is made into sound decides whether it is spoken at all."""
  if question.waveform is not None:
    return Task.A1A2 if question.speak else Task.A1T2
  return Task.T1A2 if question.style is not None and question.speak else Task.T1T2
