"""What every evaluation task is given: the settings, the assistants, the test sets, and where to leave sounds."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from omni_jax.core.styles import Style
from omni_jax.evaluate import recogniser
from omni_jax.evaluate.system import Progress, System
from omni_jax.generate.exchange import READINGS
from omni_jax.prepare.audio import decode_audio, encode_flac
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn

Result = TypeVar("Result")

INTELLIGIBLE = "flite"  # the engine whose voices pocketsphinx understands


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """How much to evaluate; every number is the most samples taken, drawn by `seed` where a split has more.

  The whole is made for four minutes on two processors, most of them spent by the independent recogniser.

  Attributes:
    stage: of the language model; empty for the one that the system has in the tiny journey.
    without_triples: the same stage trained without any three-modality sample; empty for none, None as with `stage`.
  """

  stage: str = ""
  without_triples: str | None = None
  utterances: int = 150  # for recognition and the tokenizer, each split
  questions: int = 300  # about images
  spoken_questions: int = 120
  dialogues: int = 60
  pairs: int = 80  # recordings of the `pairs` split
  recognised: int = 90  # utterances for the independent recogniser, each row
  style_repeats: int = 3  # sentences spoken in each of the 24 styles
  readings: int = READINGS  # of a text to be said, of which the best is kept
  style_training: int = 200  # training recordings of each answering voice, to fit thresholds on
  baseline_samples: int = 1500  # training records read for majority and chance
  timed: int = 3
  kept_sounds: int = 6  # of each task, to play in the report
  batch_size: int = 32
  workers: int = 2
  seed: int = 0

  def at_most(self, limit: int | None) -> "Evaluation":
    """Returns the same evaluation with no more than `limit` samples of anything (for a quick look)."""
    if limit is None:
      return self
    counts = ("utterances", "questions", "spoken_questions", "dialogues", "pairs", "recognised", "timed", "readings")
    return dataclasses.replace(self, **{name: min(limit, getattr(self, name)) for name in counts}, style_repeats=1)


@dataclasses.dataclass(kw_only=True)
class Context:
  """Handed to every task of one evaluation.

  Attributes:
    settings: how much to evaluate.
    workdir: holds the corpus.
    folder: where results and sounds go.
    system: the assistant.
    without_triples: the assistant tuned without three-modality samples; None if that stage was not trained.
    progress: starts a progress bar.
  """

  settings: Evaluation
  workdir: Path
  folder: Path
  system: System
  without_triples: System | None
  progress: Progress
  _memory: dict[str, Any] = dataclasses.field(default_factory=dict)

  def examples(
    self, folder: str, split: str, *, limit: int, keep: Callable[[Example], bool] = lambda example: True
  ) -> list[Example]:
    """Returns up to `limit` records of a split that pass `keep`, drawn evenly by the seed and kept in order."""
    source = open_set(self.workdir / "corpus" / folder, split)
    order = np.random.default_rng(self.settings.seed).permutation(len(source))
    found: dict[int, Example] = {}
    for index in order.tolist():
      if len(found) == limit:
        break
      example = source[index]
      if keep(example):
        found[index] = example
    return [found[index] for index in sorted(found)]

  def once(self, name: str, make: Callable[[], Result]) -> Result:
    """Returns what `make` returned the first time that `name` was asked for; tasks share costly answers so."""
    if name not in self._memory:
      self._memory[name] = make()
    return self._memory[name]

  def understood(self, name: str, waveforms: Sequence[np.ndarray]) -> list[str]:
    """Returns the independent recogniser's transcripts."""
    advance = self.progress(f"pocketsphinx: {name}", len(waveforms))
    return recogniser.transcribe(waveforms, workers=self.settings.workers, advance=lambda: advance(1))

  def keep_sound(self, name: str, waveform: np.ndarray) -> str:
    """Writes a sound for the report; returns its path below the evaluation folder, empty for no sound."""
    return self._keep(f"audio/{name}.flac", encode_flac(waveform)) if len(waveform) else ""

  def keep_exchange(self, name: str, *, question: np.ndarray, answer: np.ndarray) -> dict[str, str]:
    """Returns the fields of a sample that lead to the sounds of a question and its answer."""
    return {
      "question_sound": self.keep_sound(f"{name}-question", question),
      "answer_sound": self.keep_sound(f"{name}-answer", answer),
    }

  def keep_image(self, name: str, image: bytes) -> str:
    """Writes a PNG image for the report; returns its path below the evaluation folder."""
    return self._keep(f"images/{name}.png", image)

  def _keep(self, name: str, content: bytes) -> str:
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def engine(turn: Turn) -> str:
  """Returns the engine that spoke, `flite` of `flite:slt`."""
  return turn.voice.partition(":")[0]


def sound(turn: Turn) -> np.ndarray:
  """Returns the waveform of a turn."""
  return decode_audio(turn.audio)


def style_of(turn: Turn) -> Style:
  """Returns the style that a turn was spoken in."""
  return Style.parse(turn.style)
