"""A Hugging Face folder -> a stage of a working folder, from which training starts or answers are generated.

And what a stage says of the text and the images that it was trained on, for the files beside exported weights.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.checkpoint.store import Store, latest_step
from omni_jax.convert.base import import_base
from omni_jax.convert.emova_folder import QWEN2_5_TEXT_ROWS, import_folder
from omni_jax.convert.folders import read_json
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.tokens.dialogue import VOCABULARY_FILE
from omni_jax.tokens.vocabulary import Vocabulary

_STOCK = ("qwen2", "llama", "deepseek_v2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
  """What the card of an imported stage says: the model, and where it came from."""

  name: str
  model: Any
  source: Path
  vision: Path | None = added(None)
  draw: str = added("")  # of new rows, where the source is a base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """What is imported.

  Attributes:
    folder: of a stock language model, or in EMOVA's origin or HF format.
    vision: with a stock language model: folder of a Qwen2-VL tower.
    draw: with a stock language model: of new rows (`checkpoint.new_rows.DRAWS`).
    text_rows: with EMOVA's formats: ids of the tokenizer before units were added; None: as the working folder's
      vocabulary says, or else those of Qwen2.5.
  """

  folder: Path
  vision: Path | None = None
  draw: str = "mean"
  text_rows: int | None = None


def import_stage(source: Source, workdir: Path, *, name: str) -> tuple[Path, tuple[str, ...]]:
  """Writes the model of `source` as step 0 of the stage `name`; returns the stage's folder and what is in it.

  Args:
    source: what is imported.
    workdir: the working folder; for a stock language model with the vocabulary that extends its tokenizer.
    name: of the stage, which must be new.

  Raises:
    UserError: the stage exists, the folder is not a whole model, or it is of another vocabulary; nothing is written
      then.
  """
  folder = new_stage(workdir, name=name)
  stock = read_json(source.folder / "config.json").get("model_type") in _STOCK
  config, params, report = _stock(source, workdir) if stock else _emova(source, workdir)
  run = Imported(
    name=name,
    model=config,
    source=source.folder.resolve(),
    vision=source.vision and source.vision.resolve(),
    draw=source.draw if stock else "",
  )
  store = Store(folder, keep=1)
  store.save(0, params=params, moments=None, position={"step": 0})
  store.close()
  write_card(folder, make_card(run, workdir=workdir, ignored=("source", "vision"), starts=()))
  return folder, report


def _stock(source: Source, workdir: Path) -> tuple[Any, dict[str, jax.Array], tuple[str, ...]]:
  if source.text_rows is not None:
    raise UserError(
      f"--text-rows {source.text_rows}",
      where=source.folder,
      rule="the rows of a stock language model are laid out by the vocabulary of the working folder",
      remedy="leave it out",
    )
  vocabulary = Vocabulary.load(workdir / "text" / VOCABULARY_FILE)
  base = import_base(source.folder, vocabulary=vocabulary, draw=source.draw, vision=source.vision)
  return base.config, base.params, base.report


def _emova(source: Source, workdir: Path) -> tuple[Any, dict[str, jax.Array], tuple[str, ...]]:
  if source.vision is not None:
    raise UserError(
      f"--vision {source.vision}",
      where=source.folder,
      rule=f"a folder in EMOVA's format has its own image tower; a stock one is of the type {', '.join(_STOCK)}",
      remedy="leave it out",
    )
  rows, path = source.text_rows, workdir / "text" / VOCABULARY_FILE
  if rows is None:
    rows = Vocabulary.load(path).text_size if path.is_file() else QWEN2_5_TEXT_ROWS
  config, params = import_folder(source.folder, text_rows=rows)
  return config, params, (f"{len(params)} parameters, {sum(leaf.size for leaf in params.values()) / 1e6:.3f} M",)


def new_stage(workdir: Path, *, name: str) -> Path:
  """Returns the folder of a stage that is to be made.

  Raises:
    UserError: it exists.
  """
  folder = workdir / "stages" / name
  if folder.exists() and (latest_step(folder) is not None or (folder / "run.json").exists()):
    raise UserError(
      f"the stage {name!r} exists",
      where=folder,
      rule="an import makes a new stage",
      remedy="choose another name, or delete the folder",
    )
  return folder
