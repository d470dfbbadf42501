"""The text tokenizer and the vocabulary of a working folder, made from the texts of its corpus or from a base's own."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.reader import open_set
from omni_jax.tokens.dialogue import TOKENIZER_FILE, VOCABULARY_FILE
from omni_jax.tokens.extension import TOKENIZER_FILES, extend_vocabulary, load_tokenizer, read_unit_table
from omni_jax.tokens.speech_gpt import speech_gpt_vocabulary
from omni_jax.tokens.templates import TEMPLATES, end_token, template_of
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.vocabulary import CONTROLS, Vocabulary, make_vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
  """What the vocabulary holds.

  Attributes:
    text_size: rows of the text table: pieces (at least 257, the bytes) and controls.
    codebook_size: number of speech units.
    sets: whose training texts the tokenizer learns.
  """

  text_size: int
  codebook_size: int = 4096
  sets: tuple[str, ...] = ("text", "images", "speech", "dialogue", "spoken_images")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseVocabularyConfig:
  """How the vocabulary of a released base is extended.

  Attributes:
    base: folder with `tokenizer.json`, or with `tokenizer.model` and perhaps `added_tokens.json`.
    template: name in `tokens.templates.TEMPLATES`, whose end of an answer is the vocabulary's; empty: the first that
      the base has the special tokens of.
    codebook_size: number of speech units.
    units: file or folder of a release that gives units their ids; None: they are numbered behind the base's own tokens,
      or read from the base where it has them.
    native: whether styles and the controls of our own layout are added, which released weights do not know.
    speech_gpt: whether units and marks are SpeechGPT's (`tokens.speech_gpt`) instead; the fields above but the first
      and the number of units are then not read.
  """

  base: Path
  template: str = ""
  codebook_size: int = 4096
  units: Path | None = None
  native: bool = True
  speech_gpt: bool = False

  def __post_init__(self):
    if self.template and self.template not in TEMPLATES:
      raise UserError(
        f"unknown template {self.template!r}",
        where="--template",
        rule=f"one of {', '.join(TEMPLATES)}",
        remedy="choose one of these",
      )


def build_base_vocabulary(config: BaseVocabularyConfig, workdir: Path, *, overwrite: bool = False) -> Vocabulary:
  """Returns the vocabulary of `workdir/text`, made from a base's tokenizer first if it is not there yet.

  Args:
    config: which base, and what is added.
    workdir: working folder.
    overwrite: make it even if another one is there; every model trained with that one is then of another vocabulary.

  Raises:
    UserError: no tokenizer, a unit table that is no bijection, a template that the base cannot spell, or another
      vocabulary is there.
  """
  vocabulary = _extended(config)
  folder = workdir / "text"
  if not overwrite and (folder / VOCABULARY_FILE).is_file():
    found = Vocabulary.load(folder / VOCABULARY_FILE).fingerprint()
    if found != vocabulary.fingerprint():
      raise UserError(
        f"the vocabulary is {found}, that of this base would be {vocabulary.fingerprint()}",
        where=folder / VOCABULARY_FILE,
        rule="one working folder has one vocabulary",
        remedy="choose another --workdir, or --overwrite (models trained before then no longer fit)",
      )
    return vocabulary
  _forget(folder)
  chosen = TOKENIZER_FILES[:1] if (config.base / TOKENIZER_FILES[0]).is_file() else TOKENIZER_FILES[1:]
  for name in chosen:
    if (config.base / name).is_file():
      write_whole(folder / name, (config.base / name).read_bytes())
  vocabulary.save(folder / VOCABULARY_FILE)
  return vocabulary


def _extended(config: BaseVocabularyConfig) -> Vocabulary:
  tokenizer = load_tokenizer(config.base)
  if config.speech_gpt:
    return speech_gpt_vocabulary(tokenizer, num_units=config.codebook_size)
  template = config.template or template_of(tokenizer.specials)
  return extend_vocabulary(
    tokenizer,
    end=end_token(TEMPLATES[template]),
    codebook_size=config.codebook_size,
    native=config.native,
    table=None if config.units is None else read_unit_table(config.units),
  )


def build_vocabulary(config: VocabularyConfig, workdir: Path, *, overwrite: bool = False) -> Vocabulary:
  """Returns the vocabulary of `workdir/text`, made first if it is not there yet.

  Args:
    config: its sizes.
    workdir: working folder with `corpus/<set>`.
    overwrite: make it even if it is there; every model trained with the old one is then of another vocabulary.

  Raises:
    UserError: the one that is there has other sizes.
  """
  folder = workdir / "text"
  if not overwrite and (folder / VOCABULARY_FILE).is_file():
    return _checked(Vocabulary.load(folder / VOCABULARY_FILE), config, where=folder / VOCABULARY_FILE)
  texts = sorted(set(_texts(workdir, config.sets)))
  _forget(folder)
  num_pieces = config.text_size - len(CONTROLS)
  tokenizer = train_text_tokenizer(texts, path=folder / TOKENIZER_FILE, num_pieces=num_pieces)
  vocabulary = make_vocabulary(tokenizer, text_size=config.text_size, codebook_size=config.codebook_size)
  vocabulary.save(folder / VOCABULARY_FILE)
  return vocabulary


def _forget(folder: Path) -> None:
  """Removes an older vocabulary and its tokenizer, which could stand before the new one when it is read."""
  for name in (VOCABULARY_FILE, *TOKENIZER_FILES):
    (folder / name).unlink(missing_ok=True)


def _checked(vocabulary: Vocabulary, config: VocabularyConfig, *, where: Path) -> Vocabulary:
  found, wanted = (vocabulary.text_size, vocabulary.codebook_size), (config.text_size, config.codebook_size)
  if found != wanted:
    raise UserError(
      f"the vocabulary has {found[0]} text rows and {found[1]} units, the config {wanted[0]} and {wanted[1]}",
      where=where,
      rule="one working folder has one vocabulary",
      remedy="choose another --workdir, or --overwrite (models trained before then no longer fit)",
    )
  return vocabulary


def _texts(workdir: Path, sets: Sequence[str]) -> Iterator[str]:
  for name in sets:
    for example in open_set(workdir / "corpus" / name, "train"):
      yield from (turn.text for turn in example.turns)
