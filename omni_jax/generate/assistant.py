"""The assistant as one object: waveforms, images and texts in; texts, styles and waveforms out.

Wires the trained stages of a working folder together: speech tokenizer and style encoder hear, the omni model reads and
answers, the vocoder speaks. All calls take and return lists and run as one batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.batches.pictures import Image, TileSize
from omni_jax.batches.sequences import SequenceBatches
from omni_jax.batches.sources import ImageSize
from omni_jax.checkpoint.card import stage_data_of
from omni_jax.checkpoint.store import load_model
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.constraints import make_automaton
from omni_jax.generate.engine import Engine, Prompt, prompt_of
from omni_jax.generate.exchange import MAX_TOKENS, Ability, Answer, Question, cut_problem
from omni_jax.generate.json_constraints import OBJECT, OBJECT_OR_TEXT, json_automaton
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.speech_stages import TOKENIZER, VOCODER
from omni_jax.generate.streaming import ReplyStream, Stopwatch
from omni_jax.generate.synthesis import DialogueScript
from omni_jax.generate.unit_assistant import Heard, UnitAssistant, load_speech
from omni_jax.speech.interface import PhoneReader, SpeechTokenizer, StyleEncoder, Vocoder
from omni_jax.speech.lengths import Lengths
from omni_jax.tokens import dialogue as chat
from omni_jax.tokens.answers import NativeLayout, Reply
from omni_jax.tokens.styles import encode_style
from omni_jax.tokens.units import reduce_units

_MAX_ANSWER = 256


class Assistant(UnitAssistant):
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
    self.dialogue, self.images, self.style_encoder = dialogue, images, style_encoder
    automaton = make_automaton(dialogue.vocabulary) if self._is_native else json_automaton(dialogue)
    engine = Engine(model, automaton, sampling=sampling or Sampling(), max_tokens=MAX_TOKENS)
    parts: dict[str, Any] = {"tokenizer": tokenizer, "vocoder": vocoder, "lengths": lengths}
    super().__init__(engine, plain=engine, script=DialogueScript(dialogue), most=_MAX_ANSWER, **parts)

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
    codebook_size = dialogue.vocabulary.codebook_size
    parts = load_speech(workdir, tokenizer=tokenizer, vocoder=vocoder, codebook_size=codebook_size)
    _, style_encoder = load_model(workdir / "stages" / "style")
    return cls(model, dialogue=dialogue, images=images, style_encoder=style_encoder, sampling=sampling, **parts)

  @property
  def abilities(self) -> frozenset[Ability]:
    """What it can do: all, phones only where its tokenizer reads them."""
    without = () if isinstance(self.tokenizer, PhoneReader) else (Ability.READS_PHONES,)
    return frozenset(set(Ability).difference(without))

  def _hear(self, waveforms: Sequence[np.ndarray]) -> list[Heard]:
    units = self._units(waveforms)
    styles = self.style_encoder.hear_batch(list(waveforms)) if units else []
    return [Heard(*pair) for pair in zip(units, styles, strict=True)]

  def _prompt(self, question: Question, heard: Heard, watch: Stopwatch) -> Prompt:
    past = list(question.history)
    with watch.stage("see"):
      while True:
        shown = [self.images.read(_several(turn.question.image)) for turn in past]
        pictures = self.images.read(
          [image for turn in (*(one.question for one in past), question) for image in _several(turn.image)]
        )
        history = [
          (_asked(turn.question, _heard(turn.answer), sum(own.places)), _said(turn.answer))
          for turn, own in zip(past, shown, strict=True)
        ]
        own_places = sum(pictures.places) - sum(sum(own.places) for own in shown)
        asked, style = _asked(question, heard, own_places), self._given_style(question)
        tokens = self.dialogue.prompt(asked, style=style, history=history)
        if not past or len(tokens) + self._most <= MAX_TOKENS:
          images = self.images.row(pictures) if pictures.places else {}
          return prompt_of(tokens, state=self._state(question), images=images)
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

  def _given_style(self, question: Question) -> Style | None:
    """Returns the style that an answer begins with, where it was chosen by the user and so is not written again."""
    return question.style if self._is_native else None

  def _live(self, question: Question) -> ReplyStream | None:
    """Returns None for the JSON layout, whose units come at the end."""
    vocoder = self.vocoder if question.speak else None
    return ReplyStream(self.dialogue, vocoder=vocoder, style=self._given_style(question)) if self._is_native else None

  def _answer(self, ids: np.ndarray, question: Question, heard: Heard) -> Answer:
    style = self._given_style(question)
    given = encode_style(style, self.dialogue.vocabulary) if style else []
    reply: Reply = self.dialogue.read([*given, *ids.tolist()])
    return Answer(
      text=reply.text,
      heard_text=reply.heard_text,
      heard_style=heard.style,
      heard_units=heard.units,
      style=reply.style,
      units=reduce_units(reply.units)[0],
      problem="; ".join(part for part in (reply.problem, cut_problem(ids, most=self._most)) if part),
    )


def load_language(workdir: Path, *, stage: str) -> tuple[Any, chat.Dialogue, ImageSize | TileSize]:
  """Returns the model of a stage, and what its training says of how to talk to it.

  Raises:
    UserError: the stage is missing or is no language stage, or the model belongs to another vocabulary.
  """
  folder = workdir / "stages" / stage
  rule, remedy = "an assistant needs a stage of the language model", "choose a stage such as tune"
  data = stage_data_of(folder, SequenceBatches, rule=rule, remedy=remedy)
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


def _asked(question: Question, heard: Heard, image_tokens: int) -> chat.Question:
  style = heard.style if question.hear_style else None
  return chat.Question(text=question.text, image_tokens=image_tokens, units=heard.units, style=style)


def _heard(answer: Answer) -> Heard:
  return Heard(answer.heard_units, answer.heard_style)


def _said(answer: Answer) -> Reply:
  """Returns an answer as it was written."""
  return Reply(text=answer.text, style=answer.style, units=answer.units, heard_text=answer.heard_text)


def _several(image: Image | Sequence[Image] | None) -> Sequence[Image]:
  """Returns the images of a question: none, the one, or all."""
  if image is None:
    return ()
  return (image,) if isinstance(image, bytes | np.ndarray) else image
