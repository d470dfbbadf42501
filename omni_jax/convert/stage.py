"""A Hugging Face folder -> a stage of a working folder, from which training starts or answers are generated.

And what a stage says of the text and the images that it was trained on, for the files beside exported weights.
"""

import dataclasses
from pathlib import Path
from typing import Any

from omni_jax.checkpoint.card import make_card, read_card, write_card
from omni_jax.checkpoint.store import Store, latest_step
from omni_jax.convert.emova_folder import import_folder
from omni_jax.core.config import from_json
from omni_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
  """What the card of an imported stage says: the model, and where it came from."""

  name: str
  model: Any
  source: Path


def import_stage(source: Path, workdir: Path, *, name: str, text_rows: int) -> Path:
  """Writes the model of `source` as step 0 of the stage `name` and returns the stage's folder.

  Args:
    source: a folder in EMOVA's origin or HF format.
    workdir: the working folder.
    name: of the stage, which must be new.
    text_rows: ids of the tokenizer before units were added.

  Raises:
    UserError: the stage exists, or the folder is not a whole model; nothing is written then.
  """
  folder = workdir / "stages" / name
  if folder.exists() and (latest_step(folder) is not None or (folder / "run.json").exists()):
    raise UserError(
      f"the stage {name!r} exists",
      where=folder,
      rule="an import makes a new stage",
      remedy="choose another --stage, or delete the folder",
    )
  config, params = import_folder(source, text_rows=text_rows)
  run = Imported(name=name, model=config, source=source.resolve())
  store = Store(folder, keep=1)
  store.save(0, params=params, moments=None, position={"step": 0})
  store.close()
  write_card(folder, make_card(run, workdir=workdir, ignored=("source",), starts=()))
  return folder


def stage_data(folder: Path) -> Any:
  """Returns the config of the batches that a stage was trained on, None for one that was imported or has no card."""
  data = read_card(folder)["run"].get("data") if (folder / "run.json").exists() else None
  return None if data is None else from_json(data)
