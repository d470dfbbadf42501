"""What a trained assistant adds to a corpus, as steps of `build/driver.py`: words of recordings, captions, voices.

    recording without words   -> Transcribed -> speech, whose words the assistant hears
    picture without a caption -> Captioned   -> caption, which the assistant gives
    text                      -> Spoken(voices=AssistantVoices(...)) (`build.speaking`)

Each loads the stages of a working folder once in each process; on an accelerator use one process.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from omni_jax.build.driver import Work
from omni_jax.build.each import apart
from omni_jax.build.made import mark_of_stages
from omni_jax.build.speaking import Line
from omni_jax.core.errors import UserError
from omni_jax.core.styles import GENDERS
from omni_jax.generate.assistant import Assistant
from omni_jax.generate.exchange import Question
from omni_jax.generate.speech_stages import TOKENIZER, VOCODER
from omni_jax.prepare.audio import decode_audio, resample
from omni_jax.prepare.schema import Example

_ENGINE = "assistant"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """An assistant of a working folder.

  Attributes:
    workdir: with `stages`.
    stage: of its language model.
  """

  workdir: Path
  stage: str = "tune"

  @property
  def mark(self) -> str:
    """Which training it is of.

    Raises:
      UserError: a stage is missing or damaged.
    """
    stages = [self.workdir / "stages" / name for name in (self.stage, TOKENIZER, "style", VOCODER)]
    return mark_of_stages(stages)

  def load(self) -> Assistant:
    """Returns the assistant, loaded once in this process."""
    return _loaded(self.workdir, self.stage)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AssistantVoices:
  """The assistant as the voices of both genders; each style is its own."""

  trained: Trained
  users: tuple[str, ...] = tuple(f"{_ENGINE}:{gender}" for gender in GENDERS)
  answers: tuple[str, ...] = tuple(f"{_ENGINE}:{gender}" for gender in GENDERS)

  def gender(self, name: str) -> str:
    """Returns the gender of a voice."""
    return name.partition(":")[2]

  def open(self) -> Callable[[Sequence[Line]], list[np.ndarray]]:
    """Returns what says lines."""
    assistant = self.trained.load()

    def say(lines: Sequence[Line]) -> list[np.ndarray]:
      spoken = assistant.synthesise([(line.text, line.style) for line in lines]) if lines else []
      for line, one in zip(lines, spoken, strict=True):
        if one.problem or not len(one.waveform):
          raise _unmade(f"{line.text!r:.60}: {one.problem or 'no sound'}", "a text is said to its end")
      rate = assistant.vocoder.sample_rate
      return [resample(one.waveform, sample_rate=rate) for one in spoken]

    return say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcribed:
  """The step from recordings without words to utterances; those with words stay as they are."""

  trained: Trained

  def open(self) -> Work:
    """Returns the step with the assistant loaded."""
    assistant = self.trained.load()

    def work(examples: Sequence[Example]) -> list[Example]:
      silent = [place for place, example in enumerate(examples) if example.task == "recording"]
      heard = assistant.recognise([decode_audio(examples[place].turns[0].audio) for place in silent]) if silent else []
      results = list(examples)
      for place, text in zip(silent, heard, strict=True):
        if not text.strip():
          raise _unmade(f"nothing was heard in {examples[place].id}", "a recording holds words")
        turn = dataclasses.replace(examples[place].turns[0], text=text.strip())
        results[place] = dataclasses.replace(examples[place], task="speech", turns=(turn,))
      return results

    return apart(work)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
  """The step that writes the empty captions of pictures; those with words stay as they are.

  Attributes:
    trained: who writes.
    request: what is asked; a record without a request gets this one.
  """

  trained: Trained
  request: str = "what do you see"

  def open(self) -> Work:
    """Returns the step with the assistant loaded."""
    assistant = self.trained.load()

    def work(examples: Sequence[Example]) -> list[Example]:
      bare = [place for place, example in enumerate(examples) if example.image and not example.turns[-1].text.strip()]
      asked = [self._question(examples[place]) for place in bare]
      results = list(examples)
      for place, question, answer in zip(bare, asked, assistant.answer(asked) if asked else [], strict=True):
        if answer.problem or not answer.text.strip():
          raise _unmade(f"{examples[place].id}: {answer.problem or 'no words'}", "a caption is written to its end")
        user, written = examples[place].turns
        turns = dataclasses.replace(user, text=question.text), dataclasses.replace(written, text=answer.text.strip())
        results[place] = dataclasses.replace(examples[place], turns=turns)
      return results

    return apart(work)

  def _question(self, example: Example) -> Question:
    roles = [turn.role for turn in example.turns]
    if roles != ["user", "assistant"]:
      raise UserError(
        f"turns of {', '.join(roles)}",
        where=example.id,
        rule="a caption is one answer to one request",
        remedy="leave it out, or keep one exchange",
      )
    return Question(text=example.turns[0].text.strip() or self.request, image=example.image)


@functools.lru_cache(maxsize=1)
def _loaded(workdir: Path, stage: str) -> Assistant:
  return Assistant.load(workdir, stage=stage)


def _unmade(what: str, rule: str) -> UserError:
  return UserError(what, where="assistant", rule=rule, remedy="leave it out, or train the assistant longer")
