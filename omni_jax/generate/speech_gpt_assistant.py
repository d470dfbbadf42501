"""SpeechGPT as an assistant (arXiv 2305.11000): hears units, writes what it heard and what it says, then says it.

One stage does both kinds of work. Questions are answered by chains of modality, with the stage's adapters; recognition
and synthesis are the cross-modal tasks of the stage before, whose model is this one with its adapters silent. All is
decoded under constraints (`generate.chain_constraints`), where the original samples freely and cuts by regular
expressions. It has no memory there; here earlier turns stand before the question, as many as the context has room for.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.batches.speech_instruct import InstructBatches, Kind
from omni_jax.checkpoint.card import read_card, stage_data, stage_data_of
from omni_jax.checkpoint.store import load_model
from omni_jax.core.config import from_json
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.chain_constraints import SAYS, chain_automaton, chain_state, cross_modal_automaton
from omni_jax.generate.engine import Engine, Prompt, prompt_of
from omni_jax.generate.exchange import DEFAULT_STYLE, MAX_TOKENS, Ability, Answer, Question, aloud, cut_problem
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.speech_stages import TOKENIZER, VOCODER
from omni_jax.generate.streaming import ChainStream, Stopwatch
from omni_jax.generate.unit_assistant import Heard, UnitAssistant, load_speech
from omni_jax.nn.lora import Adapted
from omni_jax.speech.interface import PhoneReader, SpeechTokenizer, Vocoder
from omni_jax.speech.lengths import Lengths
from omni_jax.tokens.speech_gpt import RELEASED, SAY, TRANSCRIBE, Chain, Side, SpeechGPTWriter
from omni_jax.tokens.text import Segment
from omni_jax.tokens.units import reduce_units

_MAX_ANSWER = 512  # a chain of modality has everything in it: what was heard, what is said, and its units

_Turn = tuple[Sequence[Segment], Sequence[Segment]]  # asked and answered


class CrossModalScript:
  """The requests of SpeechGPT's second stage, for `generate.synthesis`; styles have no tokens."""

  said_state = SAYS

  def __init__(self, writer: SpeechGPTWriter, *, write: str, say: str):
    """Keeps the writer and the descriptions of the two tasks, as they were learned."""
    self._write, self._say = write, say
    self._writer, self.end = writer, writer.vocabulary.control("end")
    self._unit_of = writer.vocabulary.unit_of()

  def ask_to_say(self, text: str, style: Style | None = None) -> list[int]:
    """Returns the request to say a text."""
    del style
    return self._writer.prompt(self._writer.synthesis(text, description=self._say))

  def ask_to_write(self, units: np.ndarray, style: Style | None = None) -> list[int]:
    """Returns the request to write down units."""
    del style
    return self._writer.prompt(self._writer.recognition(units, description=self._write))

  def written(self, text: str) -> list[int]:
    """Returns the ids that answer a request to write down."""
    return self._writer.answer([text])

  def said(self, ids: np.ndarray) -> np.ndarray:
    """Returns the units of the ids that answer a request to say."""
    units = self._unit_of[np.asarray(ids, np.int64)]
    return units[units >= 0]

  def read(self, ids: np.ndarray) -> str:
    """Returns the text of the ids that answer a request to write down."""
    return self._writer.read(ids).text


class SpeechGPTAssistant(UnitAssistant):
  """Hears, answers and speaks in one voice, or in the styles of its vocoder; it does not see."""

  def __init__(
    self,
    model: Any,
    *,
    chains: SpeechGPTWriter,
    cross_modal: SpeechGPTWriter,
    tokenizer: SpeechTokenizer,
    vocoder: Vocoder,
    requests: bool = True,
    descriptions: tuple[str, str] = (TRANSCRIBE[0], SAY[0]),
    sampling: Sampling | None = None,
    lengths: Lengths | None = None,
  ):
    """Keeps the parts; `load` makes them from a working folder.

    Args:
      model: of the stage of chains, `nn.lora.Adapted` or whole.
      chains: writes its questions.
      cross_modal: writes those of the stage before.
      tokenizer: recordings to units.
      vocoder: units to sound.
      requests: whether a chain's question says how to answer, as the batches of the stage had it.
      descriptions: of recognition and of synthesis, as the stage before learned them.
      sampling: how answers are drawn.
      lengths: how long texts last, to judge readings by; without, their length is not judged.
    """
    self._writer, self._requests = chains, requests
    options: dict[str, Any] = {"sampling": sampling or Sampling(), "max_tokens": MAX_TOKENS}
    plain = model.silenced() if isinstance(model, Adapted) else model
    super().__init__(
      Engine(model, chain_automaton(chains), **options),
      plain=Engine(plain, cross_modal_automaton(cross_modal), **options),
      script=CrossModalScript(cross_modal, write=descriptions[0], say=descriptions[1]),
      tokenizer=tokenizer,
      vocoder=vocoder,
      lengths=lengths,
      most=_MAX_ANSWER,
    )

  @classmethod
  def load(
    cls,
    workdir: Path,
    *,
    stage: str = "speech_gpt",
    sampling: Sampling | None = None,
    tokenizer: str = TOKENIZER,
    vocoder: str = VOCODER,
  ) -> "SpeechGPTAssistant":
    """Returns the assistant of the newest checkpoints in `workdir/stages`.

    Raises:
      UserError: a stage is missing or damaged, learned no chains, or belongs to other units.
    """
    workdir = Path(workdir)
    folder = workdir / "stages" / stage
    data = _chains_of(folder)
    data = dataclasses.replace(data, text=workdir / "text")
    writer = data.writer()
    codebook_size = writer.vocabulary.codebook_size
    parts = load_speech(workdir, tokenizer=tokenizer, vocoder=vocoder, codebook_size=codebook_size)
    config, model = load_model(folder)
    _check_tables(getattr(config, "base", config), writer, folder)
    before = _stage_before(workdir, folder, data)
    parts["cross_modal"] = dataclasses.replace(writer, template=before.template)
    parts["descriptions"] = before.descriptions[0][0], before.descriptions[1][0]
    return cls(model, chains=writer, requests=data.requests, sampling=sampling, **parts)

  @property
  def abilities(self) -> frozenset[Ability]:
    """It remembers; phones can be read from its units where its tokenizer does so; it neither sees nor hears styles."""
    reads = {Ability.READS_PHONES} if isinstance(self.tokenizer, PhoneReader) else set()
    return frozenset({Ability.REMEMBERS} | reads)

  def _prompt(self, question: Question, heard: Heard, watch: Stopwatch) -> Prompt:
    del watch
    asked = self._request(question, Side(question.text, heard.units))
    history = [self._past(past.question, past.answer) for past in question.history]
    while True:
      ids = self._writer.prompt(asked, history=history)
      if not history or len(ids) + self._most <= MAX_TOKENS:
        return prompt_of(ids, state=chain_state(self._chain(question)))
      history = history[1:]

  def _live(self, question: Question) -> ChainStream:
    voice = self.vocoder.stream(question.style or DEFAULT_STYLE) if question.speak else None
    return ChainStream(self._writer, hears=self._chain(question).hears, voice=voice)

  def _chain(self, question: Question) -> Chain:
    """Returns how a question is answered: speech aloud, a typed one aloud where a style is asked for.

    Without requests only the question can say so, and text asks for text: it is read aloud afterwards.
    """
    hears = question.waveform is not None
    speaks = hears or (question.style is not None and self._requests)
    return next(chain for chain in Chain if (chain.hears, chain.speaks) == (hears, speaks))

  def _aloud(self, question: Question, answer: Answer) -> Answer:
    """Returns an answer with its sound, if it is to have one: of its units, or of its text read aloud."""
    if not question.speak:
      return answer
    if len(answer.units):
      return dataclasses.replace(answer, waveform=self._speak(answer.units, answer.style))
    if question.style is None or question.waveform is not None or not answer.text.strip():
      return answer
    (said,) = self.synthesise([(answer.text, question.style)])
    return aloud(answer, said, style=question.style)

  def _request(self, question: Question, side: Side) -> Sequence[Segment]:
    request = self._writer.request(self._chain(question), side)
    return request if self._requests else request[1:-1]

  def _past(self, question: Question, answer: Answer) -> _Turn:
    """Returns an earlier turn; one that was never heard or said aloud counts as written."""
    hears, speaks = len(answer.heard_units) > 0, len(answer.units) > 0
    chain = next(chain for chain in Chain if (chain.hears, chain.speaks) == (hears, speaks))
    asked = Side(answer.heard_text if hears else question.text, answer.heard_units if hears else None)
    request = self._writer.request(chain, asked)
    said = Side(answer.text, answer.units if speaks else None)
    return request if self._requests else request[1:-1], self._writer.chain(chain, asked, said)

  def _answer(self, ids: np.ndarray, question: Question, heard: Heard) -> Answer:
    reply, cut = self._writer.read(ids), cut_problem(ids, most=self._most)
    return Answer(
      text=reply.text,
      heard_text=reply.heard_text,
      heard_units=heard.units,
      style=(question.style or DEFAULT_STYLE) if len(reply.units) else None,
      units=reduce_units(reply.units)[0],
      problem="; ".join(part for part in (reply.problem, cut) if part),
    )


def _chains_of(folder: Path) -> InstructBatches:
  """Returns what a stage of chains was trained on."""
  rule = "an assistant of SpeechGPT needs the stage that learned chains of modality"
  remedy = "choose the stage of configs/speechgpt/chain.py"
  data = stage_data_of(folder, InstructBatches, rule=rule, remedy=remedy)
  if data.kind is not Kind.CHAIN:
    raise UserError(f"stage {folder.name!r} was trained on {data.kind.name}", where=folder, rule=rule, remedy=remedy)
  return data


def _stage_before(workdir: Path, folder: Path, data: InstructBatches) -> InstructBatches:
  """Returns what the stage that this one started from learned: its template and descriptions.

  Where that stage is not here, its template is the release's and its descriptions are those of this one.
  """
  for start in read_card(folder)["run"].get("start") or ():
    known = stage_data(workdir / "stages" / from_json(start).checkpoint.name)
    if isinstance(known, InstructBatches) and known.kind is Kind.CROSS_MODAL:
      return known
  return dataclasses.replace(data, template=dataclasses.replace(RELEASED, system=data.template.system))


def _check_tables(config: Any, writer: SpeechGPTWriter, folder: Path) -> None:
  sizes, vocabulary = (config.decoder.vocab_size, config.decoder.extra_vocab_size), writer.vocabulary
  if sizes != (vocabulary.text_size, vocabulary.extra_size):
    raise UserError(
      f"checkpoint of another vocabulary: (text rows, extra rows) {sizes}",
      where=folder,
      rule=f"the working folder's has {vocabulary.text_size, vocabulary.extra_size}",
      remedy="restore the tokenizer of the checkpoint, or train the stages again",
    )
