"""Makes the whole corpus of a working folder: plans every split, speaks it in several processes, writes it.

Or adds sets to it that leave it as it is (`AdditionConfig`).

Split by split: what is finished with the same config is left alone, so an interrupted run goes on and a second one
returns at once. `corpus/<set>/` are the sets, `corpus/phones.json` the phone symbols, `corpus/<set>/made.json` what
each split was made from.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from omni_jax.build.made import is_made, remember
from omni_jax.build.processes import processes
from omni_jax.build.progress import bars
from omni_jax.core.config import fingerprint
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare import plan
from omni_jax.prepare.emova_phones import MANDARIN_PHONES
from omni_jax.prepare.phonemes import PHONES
from omni_jax.prepare.schema import SCHEMA_VERSION, Example, features
from omni_jax.prepare.voices.catalogue import Cast, cast
from omni_jax.prepare.writer import write_split

RECIPE = 2  # raised whenever the plans or the voices change, so that older corpora are made again
_CHUNK = 16  # utterances for a process at a time: seconds of work, so that progress is seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
  """How much of everything; see `prepare.plan` for what the splits hold.

  Attributes:
    seed: another seed makes another corpus over the same held-out sentences and scenes.
    text, images, speech, dialogue: records (for images: pictures) of the training splits.
    text_test, images_test, speech_test, voice_test, dialogue_test, spoken_images_test: of the test splits;
      `voice_test` is that of the unheard voice.
    pairs: remarks or sentences of each `pairs` split, each said in four emotions.
    questions_per_image: at most so many for each picture, beside its caption.
    spoken_image_share: records with image and speech, as a share of the instruction records (dialogue and questions
      about images); EMOVA's is 0.025.
  """

  seed: int
  text: int
  images: int
  speech: int
  dialogue: int
  text_test: int
  images_test: int
  speech_test: int
  voice_test: int
  dialogue_test: int
  spoken_images_test: int
  pairs: int
  questions_per_image: int
  spoken_image_share: float

  def __post_init__(self):
    _check_positive(self)

  @property
  def spoken_images(self) -> int:
    """Records of the training split that join image and speech."""
    instructions = self.dialogue + self.images * self.questions_per_image
    return max(1, round(self.spoken_image_share * instructions))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdditionConfig:
  """Sets beside those of a corpus, which stay as they are: Mandarin speech, and the same words in all 24 styles.

  `mandarin/phones.json` holds the corpus' own phones and then those of Mandarin, so that one model can learn both.

  Attributes:
    seed: another seed makes other sentences.
    mandarin, mandarin_test, mandarin_voice: utterances of `mandarin/train`, `test` and `test_voice`.
    styles: sentences of `styles/test`, 24 utterances each.
  """

  seed: int
  mandarin: int
  mandarin_test: int
  mandarin_voice: int
  styles: int

  def __post_init__(self):
    _check_positive(self)


@dataclasses.dataclass(frozen=True)
class Split:
  """One split to make: where, the function that plans its records, and whether they are to be spoken."""

  set_name: str
  name: str
  plan: Callable[[], Iterable[Example]]
  spoken: bool

  @property
  def path(self) -> str:
    """Set and split in one word, for messages."""
    return f"{self.set_name}/{self.name}"


def make_corpus(
  config: CorpusConfig | AdditionConfig, folder: Path, *, workers: int = 0, report: Callable[[str], None] = print
) -> Path:
  """Makes every split that is not there yet, and returns `folder`.

  Args:
    config: how much of everything, or what is added to it.
    folder: `WORKDIR/corpus`.
    workers: processes that speak; 0 means one for each CPU.
    report: is given a line for each thing done.

  Raises:
    UserError: a split made from another config is there, an engine fails, or the disk refuses.
  """
  folder.mkdir(parents=True, exist_ok=True)
  roles = cast()
  if not roles.answers["female"].startswith("flite"):
    report("flite is not installed: every voice is espeak-ng's (sudo apt-get install flite for better ones)")
  mark = fingerprint((config, RECIPE, SCHEMA_VERSION, roles.answering, roles.held_out))
  if isinstance(config, CorpusConfig):
    planned, phones, symbols = splits(config, roles), folder / "phones.json", PHONES
  else:
    planned, phones, symbols = additions(config, roles), folder / "mandarin" / "phones.json", PHONES + MANDARIN_PHONES
  phones.parent.mkdir(exist_ok=True)
  write_whole(phones, json.dumps(list(symbols)))
  remedy = f"choose another --workdir, or delete {folder} to make the corpus again"
  missing = [split for split in planned if not is_made(folder / split.set_name, split.name, mark, remedy=remedy)]
  if not missing:
    report(f"corpus is complete in {folder}")
    return folder
  features()  # imports tensorflow-datasets, whose lazy imports would disturb those of the progress bar's thread
  started = time.time()
  with processes(workers or os.cpu_count() or 1) as pool, bars() as progress:
    for split, num_examples, examples in _recorded(missing, pool):
      count = _write(split, progress.track(examples, num_examples, description=split.path), folder, mark)
      report(f"{split.path}: {count} records, {time.time() - started:.0f} s")
  return folder


def splits(config: CorpusConfig, roles: Cast) -> list[Split]:
  """Returns every split of the corpus, cheap ones first."""

  def seed(name: str) -> str:
    return f"{config.seed}/{name}"

  def text(split: str, count: int) -> Split:
    held_out = split != "train"
    return Split("text", split, lambda: plan.plan_text(count, held_out=held_out, seed=seed(f"text/{split}")), False)

  def images(split: str, count: int) -> Split:
    settings: dict[str, Any] = {"questions_per_image": config.questions_per_image, "held_out": split != "train"}
    return Split("images", split, lambda: plan.plan_images(count, **settings, seed=seed(f"images/{split}")), False)

  def spoken(set_name: str, split: str, planner: Callable[..., list[Example]], count: int, **settings: Any) -> Split:
    return Split(
      set_name, split, lambda: planner(count, cast=roles, seed=seed(f"{set_name}/{split}"), **settings), True
    )

  return [
    text("train", config.text),
    text("test", config.text_test),
    images("train", config.images),
    images("test", config.images_test),
    spoken("speech", "train", plan.plan_speech, config.speech, held_out=False),
    spoken("speech", "test", plan.plan_speech, config.speech_test, held_out=True),
    spoken("speech", "test_voice", plan.plan_unheard_voice, config.voice_test),
    spoken("speech", "pairs", plan.plan_speech_pairs, config.pairs),
    spoken("dialogue", "train", plan.plan_dialogue, config.dialogue, held_out=False),
    spoken("dialogue", "test", plan.plan_dialogue, config.dialogue_test, held_out=True),
    spoken("dialogue", "pairs", plan.plan_dialogue_pairs, config.pairs),
    spoken("spoken_images", "train", plan.plan_spoken_images, config.spoken_images, held_out=False),
    spoken("spoken_images", "test", plan.plan_spoken_images, config.spoken_images_test, held_out=True),
  ]


def additions(config: AdditionConfig, roles: Cast) -> list[Split]:
  """Returns every split that is added."""
  seeds = {name: f"{config.seed}/{name}" for name in ("mandarin/train", "mandarin/test", "mandarin/voice", "styles")}

  def mandarin(split: str, count: int) -> Split:
    settings: dict[str, Any] = {"held_out": split != "train", "seed": seeds[f"mandarin/{split}"]}
    return Split("mandarin", split, lambda: plan.plan_mandarin(count, **settings), True)

  unheard = config.mandarin_voice, seeds["mandarin/voice"]
  return [
    Split("styles", "test", lambda: plan.plan_styles(config.styles, cast=roles, seed=seeds["styles"]), True),
    mandarin("train", config.mandarin),
    mandarin("test", config.mandarin_test),
    Split("mandarin", "test_voice", lambda: plan.plan_unheard_mandarin(unheard[0], seed=unheard[1]), True),
  ]


def _check_positive(config: CorpusConfig | AdditionConfig) -> None:
  for field in dataclasses.fields(config):
    if not getattr(config, field.name) > 0 and field.name != "seed":
      raise UserError(
        f"{field.name} = {getattr(config, field.name)}",
        where=type(config).__name__,
        rule="every number and share is positive",
        remedy=f"set {field.name} to a positive value",
      )


def _recorded(
  missing: list[Split], pool: concurrent.futures.Executor
) -> Iterator[tuple[Split, int, Iterable[Example]]]:
  """Yields each split with its number of records and the records; the next spoken split is always in the making.

  So the processes speak while text is written and images are drawn, and never wait between two splits.
  """
  to_speak = [split for split in missing if split.spoken]
  started: dict[str, tuple[int, Iterator[Example]]] = {}

  def start_next() -> None:
    if to_speak:
      split = to_speak.pop(0)
      examples = list(split.plan())
      started[split.path] = len(examples), _speak_all(examples, pool)

  start_next()
  for split in missing:
    if split.spoken:
      start_next()
      yield split, *started.pop(split.path)
    else:
      examples = list(split.plan())
      yield split, len(examples), examples


def _speak_all(examples: list[Example], pool: concurrent.futures.Executor) -> Iterator[Example]:
  """Returns an iterator over the recorded examples in order; recording starts at once."""
  chunks = [examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK)]
  return itertools.chain.from_iterable(pool.map(_record_all, chunks))


def _write(split: Split, examples: Iterable[Example], folder: Path, mark: str) -> int:
  count = write_split(folder / split.set_name, split.name, examples)
  remember(folder / split.set_name, split.name, mark)
  return count


def _record_all(examples: list[Example]) -> list[Example]:
  return [plan.record(example) for example in examples]
