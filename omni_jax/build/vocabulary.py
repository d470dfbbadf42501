"""The text tokenizer and the vocabulary of a working folder, made from the texts of its corpus."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from omni_jax.tokens.dialogue import TOKENIZER_FILE, VOCABULARY_FILE
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
  num_pieces = config.text_size - len(CONTROLS)
  tokenizer = train_text_tokenizer(texts, path=folder / TOKENIZER_FILE, num_pieces=num_pieces)
  vocabulary = make_vocabulary(tokenizer, text_size=config.text_size, codebook_size=config.codebook_size)
  vocabulary.save(folder / VOCABULARY_FILE)
  return vocabulary


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
    source = open_set(workdir / "corpus" / name, "train")
    for index in range(len(source)):
      yield from (turn.text for turn in source[index].turns)
