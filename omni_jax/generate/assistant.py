"""The assistant as one object: waveforms, images and texts in; texts, styles and waveforms out.

Wires the trained stages of a working folder together: speech tokenizer and style encoder hear, the omni model reads and
answers, the vocoder speaks. All calls take and return lists and run as one batch.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omni_jax.batches.pictures import Image, TileSize
from omni_jax.batches.sequences import SequenceBatches
from omni_jax.batches.sources import ImageSize
from omni_jax.checkpoint.card import read_card
from omni_jax.checkpoint.store import load_model
from omni_jax.core.config import from_json
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.constraints import make_automaton
from omni_jax.generate.engine import Engine, Prompt
from omni_jax.generate.exchange import (
  MAX_TOKENS,
  MAX_TRANSCRIPT,
  READINGS,
  Ability,
  Answer,
  Event,
  Question,
  SpokenText,
  check_asked,
  check_waveform,
  cut_problem,
)
from omni_jax.generate.json_constraints import OBJECT, OBJECT_OR_TEXT, json_automaton
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.speech_stages import TOKENIZER, VOCODER, check_units_of, load_tokenizer, load_vocoder
from omni_jax.generate.streaming import ReplyStream, Stopwatch
from omni_jax.generate.synthesis import DialogueScript, Reader
from omni_jax.speech.interface import Manner, PhoneReader, SpeechTokenizer, StyleEncoder, Vocoder
from omni_jax.speech.lengths import LENGTHS_FILE, Lengths
from omni_jax.tokens import dialogue as chat
from omni_jax.tokens.answers import NativeLayout, Reply
from omni_jax.tokens.styles import encode_style
from omni_jax.tokens.units import reduce_units

_MAX_ANSWER = 256
_STREAM_BLOCK = 8  # tokens between two looks at a stream; about a quarter of a second of sound


class _Heard(NamedTuple):
  """What was heard of a question: reduced units, empty without speech, and the style."""

  units: np.ndarray
  style: Style | None


class Assistant:
  """Hears, sees, answers and speaks."""

  def __init__(
    self,
    model: Any,
    *,
    dialogue: chat.Dialogue,
    images: ImageSize | TileSize,
    tokenizer: SpeechTokenizer,
    style_encoder: StyleEncoder,
    vocoder: Vocoder,
    sampling: Sampling | None = None,
    lengths: Lengths | None = None,
  ):
    """Keeps the parts; `load` makes them from a working folder."""
    self.dialogue, self.images = dialogue, images
    self.tokenizer, self.style_encoder, self.vocoder = tokenizer, style_encoder, vocoder
    automaton = make_automaton(dialogue.vocabulary) if self._is_native else json_automaton(dialogue)
    self.engine = Engine(model, automaton, sampling=sampling or Sampling(), max_tokens=MAX_TOKENS)
    self.reader = Reader(
      self.engine,
      script=DialogueScript(dialogue),
      max_new_tokens=_MAX_ANSWER,
      vocoder=vocoder if lengths else None,
      lengths=lengths,
    )

  @classmethod
  def load(
    cls,
    workdir: Path,
    *,
    stage: str = "tune",
    sampling: Sampling | None = None,
    tokenizer: str = TOKENIZER,
    vocoder: str = VOCODER,
  ) -> "Assistant":
    """Returns the assistant of the newest checkpoints in `workdir/stages`.

    Args:
      workdir: the working folder.
      stage: of the language model.
      sampling: how answers are drawn.
      tokenizer: stage of the speech tokenizer.
      vocoder: stage of the vocoder.

    Raises:
      UserError: a stage is missing or damaged, or belongs to another vocabulary.
    """
    workdir = Path(workdir)
    model, dialogue, images = load_language(workdir, stage=stage)
    hearing, speaking = load_tokenizer(workdir, stage=tokenizer), load_vocoder(workdir, stage=vocoder)
    for name, part in ((tokenizer, hearing), (vocoder, speaking)):
      check_units_of(part, codebook_size=dialogue.vocabulary.codebook_size, where=workdir / "stages" / name)
    _, style_encoder = load_model(workdir / "stages" / "style")
    parts = {"tokenizer": hearing, "style_encoder": style_encoder, "vocoder": speaking}
    path = workdir / "units" / LENGTHS_FILE
    lengths = Lengths.load(path) if path.exists() else None
    return cls(model, dialogue=dialogue, images=images, sampling=sampling, lengths=lengths, **parts)

  @property
  def sample_rate(self) -> int:
    """Samples a second of what it says."""
    return self.vocoder.sample_rate

  @property
  def abilities(self) -> frozenset[Ability]:
    """What it can do: all, phones only where its tokenizer reads them."""
    without = () if isinstance(self.tokenizer, PhoneReader) else (Ability.READS_PHONES,)
    return frozenset(set(Ability).difference(without))

  def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the words of each recording, float [A] at 16 kHz."""
    units = self._units(waveforms)
    styles = self.style_encoder.hear_batch(list(waveforms)) if units else []
    heard = [chat.Question(units=row, style=style) for row, style in zip(units, styles, strict=True)]
    prompts = [_prompt(self.dialogue.recognition_prompt(question), state="write") for question in heard]
    return [self.dialogue.read_text(ids) for ids in self.engine.generate(prompts, max_new_tokens=MAX_TRANSCRIPT)]

  def synthesise(
    self, texts: Sequence[tuple[str, Style]], *, readings: int = READINGS, manner: Manner = None
  ) -> list[SpokenText]:
    """Returns each text said in its style: the best of so many readings (`generate.synthesis`).

    With a `manner`, such as a condition that the vocoder knows by name, the vocoder speaks all in it.
    """
    spoken = []
    for ids, (_, style) in zip(self.reader.read(texts, readings=readings), texts, strict=True):
      units = reduce_units(self.dialogue.read_units(ids))[0]
      spoken.append(
        SpokenText(
          units=units, waveform=self._speak(units, manner or style), problem=cut_problem(ids, most=_MAX_ANSWER)
        )
      )
    return spoken

  def resynthesise(self, recordings: Sequence[tuple[np.ndarray, Style]]) -> list[np.ndarray]:
    """Returns each recording, float [A] at 16 kHz, after units and vocoder, said in its style."""
    units = self._units([waveform for waveform, _ in recordings])
    return [self._speak(row, style) for row, (_, style) in zip(units, recordings, strict=True)]

  def answer(self, questions: Sequence[Question]) -> list[Answer]:
    """Returns the answer to each question."""
    watch = Stopwatch()
    prompts, heard = self._read(questions, watch)
    with watch.stage("answer"):
      rows = self.engine.generate(prompts, max_new_tokens=_MAX_ANSWER)
    answers = [self._answer(*parts) for parts in zip(rows, questions, heard, strict=True)]
    with watch.stage("vocoder"):
      sounds = [
        self._speak(answer.units, answer.style) if question.speak and answer.style else answer.waveform
        for answer, question in zip(answers, questions, strict=True)
      ]
    timings = watch.rounded()
    return [
      dataclasses.replace(answer, waveform=sound, timings=timings)
      for answer, sound in zip(answers, sounds, strict=True)
    ]

  def stream(self, question: Question) -> Iterator[Event]:
    """Returns the answer piece by piece; the last event has the whole of it.

    The JSON layout has its units at the end, so its sound comes as one piece.
    """
    watch = Stopwatch()
    prompts, (heard,) = self._read([question], watch)
    live = ReplyStream(
      self.dialogue,
      vocoder=self.vocoder if question.speak else None,
      style=question.style if self._starts_said(question) else None,
    )
    blocks, ids, sound = self.engine.stream(prompts, max_new_tokens=_MAX_ANSWER, block=_STREAM_BLOCK), [], []
    native = self._is_native
    for block in watch.iterate("answer", blocks):
      row = block[0][block[0] >= 0]
      ids.append(row)
      for piece in watch.iterate("vocoder", live.push(row)) if native else ():
        sound += [piece.samples] if piece.samples is not None else []
        yield Event(text=piece.text, heard_text=piece.heard_text, style=piece.style, samples=piece.samples)
    answer = self._answer(np.concatenate(ids), question, heard)
    for piece in watch.iterate("vocoder", live.finish()) if native else ():
      sound += [piece.samples] if piece.samples is not None else []
      yield Event(text=piece.text, heard_text=piece.heard_text, samples=piece.samples)
    if not native:
      yield Event(text=answer.text, heard_text=answer.heard_text, style=answer.style)
      if question.speak and answer.style:
        with watch.stage("vocoder"):
          sound.append(self._speak(answer.units, answer.style))
        yield Event(samples=sound[-1])
    waveform = np.concatenate([np.zeros(0, np.float32), *sound])
    timings = watch.rounded()
    yield Event(answer=dataclasses.replace(answer, waveform=waveform, timings=timings), timings=timings)

  def _read(self, questions: Sequence[Question], watch: Stopwatch) -> tuple[list[Prompt], list[_Heard]]:
    """Returns the prompts and what was heard."""
    check_asked(questions, abilities=self.abilities)
    spoken = [row for row, question in enumerate(questions) if question.waveform is not None]
    with watch.stage("hear"):
      waveforms = [np.asarray(questions[row].waveform) for row in spoken]
      units = dict(zip(spoken, self._units(waveforms), strict=True))
      styles = dict(zip(spoken, self.style_encoder.hear_batch(waveforms) if waveforms else [], strict=True))
    prompts = []
    for row, question in enumerate(questions):
      with watch.stage("see"):
        prompts.append(self._prompt(question, units=units.get(row), heard=styles.get(row)))
    none = np.zeros(0, np.int32)
    return prompts, [_Heard(units.get(row, none), styles.get(row)) for row in range(len(questions))]

  def _prompt(self, question: Question, *, units: np.ndarray | None, heard: Style | None) -> Prompt:
    """Returns the question behind as many earlier turns as there is room for, the last ones."""
    past = list(question.history)
    while True:
      shown = [self.images.read(_several(turn.question.image)) for turn in past]
      pictures = self.images.read(
        [image for turn in (*(one.question for one in past), question) for image in _several(turn.image)]
      )
      history = [
        (_asked(turn.question, turn.answer.heard_units, turn.answer.heard_style, sum(own.places)), _said(turn.answer))
        for turn, own in zip(past, shown, strict=True)
      ]
      own_places = sum(pictures.places) - sum(sum(own.places) for own in shown)
      asked = _asked(question, units, heard, own_places)
      style = question.style if self._is_native else None
      tokens = self.dialogue.prompt(asked, style=style, history=history)
      if not past or len(tokens) + _MAX_ANSWER <= MAX_TOKENS:
        images = self.images.row(pictures) if pictures.places else {}
        return _prompt(tokens, state=self._state(question), images=images)
      past = past[1:]

  @property
  def _is_native(self) -> bool:
    return isinstance(self.dialogue.layout, NativeLayout)

  def _state(self, question: Question) -> str:
    """Returns where the answer begins."""
    if not self._is_native:
      return OBJECT_OR_TEXT if question.waveform is None else OBJECT
    if question.waveform is not None:
      return "heard" if question.style else "gender"
    return "said" if question.style else "write"

  def _starts_said(self, question: Question) -> bool:
    return question.style is not None and self._is_native

  def _answer(self, ids: np.ndarray, question: Question, heard: _Heard) -> Answer:
    forced = (
      encode_style(question.style, self.dialogue.vocabulary) if self._starts_said(question) and question.style else []
    )
    reply: Reply = self.dialogue.read([*forced, *ids.tolist()])
    problem = "; ".join(part for part in (reply.problem, cut_problem(ids, most=_MAX_ANSWER)) if part)
    units = reduce_units(reply.units)[0]
    return Answer(
      text=reply.text,
      heard_text=reply.heard_text,
      heard_style=heard.style,
      heard_units=heard.units,
      style=reply.style,
      units=units,
      problem=problem,
    )

  def _units(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the reduced units of each recording."""
    checked = [check_waveform(waveform) for waveform in waveforms]
    return [reduce_units(units)[0] for units in self.tokenizer.encode_batch(checked)] if checked else []

  def _speak(self, units: np.ndarray, style: Manner) -> np.ndarray:
    return np.asarray(self.vocoder.decode(units, style), np.float32) if len(units) else np.zeros(0, np.float32)


def load_language(workdir: Path, *, stage: str) -> tuple[Any, chat.Dialogue, ImageSize | TileSize]:
  """Returns the model of a stage, and what its training says of how to talk to it.

  Raises:
    UserError: the stage is missing or is no language stage, or the model belongs to another vocabulary.
  """
  folder = workdir / "stages" / stage
  stored = read_card(folder)["run"].get("data")  # an imported stage has none
  data = from_json(stored)
  if not isinstance(data, SequenceBatches):
    raise UserError(
      f"stage {stage!r} was {f'trained on {type(data).__name__}' if stored else 'imported, not trained here'}",
      where=folder,
      rule="an assistant needs a stage of the language model",
      remedy="choose a stage such as tune",
    )
  dialogue = chat.load_dialogue(workdir / "text", template=data.template, layout=data.layout)
  vocabulary = dialogue.vocabulary
  _, model = load_model(folder)
  config = model.config  # of the model itself, where a stage trained adapters on it
  sizes = (config.decoder.vocab_size, config.decoder.extra_vocab_size, config.image_token)
  expected = (vocabulary.text_size, vocabulary.extra_size, vocabulary.control("image"))
  if sizes != expected or data.vocabulary_id not in ("", vocabulary.fingerprint()):
    raise UserError(
      f"checkpoint of another vocabulary: {data.vocabulary_id or 'unnamed'}, (text rows, extra rows, image id) {sizes}",
      where=folder,
      rule=f"{workdir / 'text'} holds {vocabulary.fingerprint()}, {expected}",
      remedy="restore the vocabulary of the checkpoint, or train the stage again",
    )
  return model, dialogue, data.images


def _asked(question: Question, units: np.ndarray | None, heard: Style | None, image_tokens: int) -> chat.Question:
  return chat.Question(
    text=question.text,
    image_tokens=image_tokens,
    units=np.zeros(0, np.int32) if units is None else units,
    style=heard if question.hear_style else None,
  )


def _said(answer: Answer) -> Reply:
  """Returns an answer as it was written."""
  return Reply(text=answer.text, style=answer.style, units=answer.units, heard_text=answer.heard_text)


def _prompt(tokens: Sequence[int], *, state: str, images: Mapping[str, np.ndarray] | None = None) -> Prompt:
  return Prompt(tokens=np.asarray(tokens, np.int32), state=state, images=images or {})


def _several(image: Image | Sequence[Image] | None) -> Sequence[Image]:
  """Returns the images of a question: none, the one, or all."""
  if image is None:
    return ()
  return (image,) if isinstance(image, bytes | np.ndarray) else image
