"""What each split of a set was made from: `made.json` beside its shards, split -> mark.

It is written after the split, so a split without its mark was interrupted and is made again.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from omni_jax.checkpoint.card import read_card
from omni_jax.checkpoint.store import require_step
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.writer import read_splits

MADE = "made.json"


def is_made(folder: Path, split: str, mark: str, *, remedy: str, replace: bool = False) -> bool:
  """Returns whether a split of the set in `folder` is there and was made from what `mark` stands for.

  Args:
    folder: of the set.
    split: its name.
    mark: a fingerprint of all that the split is made from.
    remedy: what to do if it was made from something else.
    replace: whether such a split counts as missing instead.

  Raises:
    UserError: it was made from something else, or `made.json` is damaged.
  """
  made = read_marks(folder / MADE).get(split)
  if made is None or split not in read_splits(folder):
    return False
  if made == mark or replace:
    return made == mark
  raise UserError(
    f"split {split!r} was made from another config or corpus, or by an earlier version",
    where=folder,
    rule="a split is made once",
    remedy=remedy,
  )


def remember(folder: Path, split: str, mark: str) -> None:
  """Writes that a split was made from what `mark` stands for."""
  path = folder / MADE
  write_whole(path, json.dumps({**read_marks(path), split: mark}, indent=1))


def mark_of_stages(stages: Sequence[Path]) -> str:
  """Returns which trainings some stage folders hold.

  Raises:
    UserError: one is missing or damaged.
  """
  return json.dumps([[read_card(folder)["fingerprint"], require_step(folder)] for folder in stages])


def read_marks(path: Path) -> dict[str, str]:
  """Returns split -> mark of a file beside a set, empty if it is not there.

  Raises:
    UserError: it is damaged.
  """
  try:
    return dict(json.loads(path.read_text())) if path.is_file() else {}
  except (ValueError, TypeError) as error:
    raise UserError(
      f"damaged ({error})", where=path, rule="the mark of each split", remedy="delete the file: they are made again"
    ) from error
