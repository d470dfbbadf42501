"""The card of a stage, `run.json`: which run wrote this folder, what it started from, and with which versions.

From the card alone the model is rebuilt, a finished stage is recognised, and a changed run is told from the same run
going on. Paths inside the working folder are written `<workdir>/...`, so the folder may be moved.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

Kind = TypeVar("Kind")

FORMAT = 1
_FIELDS = {"fingerprint": str, "run": dict, "starts": list}  # what is read back
_WORKDIR = "<workdir>"
_PACKAGES = ("omni_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def make_card(run: Any, *, workdir: Path, ignored: tuple[str, ...], starts: tuple[str, ...]) -> dict[str, Any]:
  """Returns the card of a run.

  Args:
    run: a dataclass with a field `model`.
    workdir: the working folder.
    ignored: fields of `run`, by dotted path, that change how it is run and not what comes out.
    starts: fingerprints of the checkpoints it starts from.
  """
  stored = _relative(to_json(run), str(workdir))
  same = _without(stored, ignored)
  identity = {**same, "starts": list(starts)}
  digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
  return {
    "format": FORMAT,
    "fingerprint": digest,
    "run": stored,
    "ignored": list(ignored),
    "starts": list(starts),
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
  }


def write_card(stage_folder: Path, card: dict[str, Any]) -> None:
  """Writes `run.json`, whole or not at all."""
  write_whole(stage_folder / "run.json", json.dumps(card, indent=1, sort_keys=True) + "\n")


def read_card(stage_folder: Path) -> dict[str, Any]:
  """Returns the card of a stage.

  Raises:
    UserError: there is none, or it is damaged.
  """
  path = stage_folder / "run.json"
  if not path.exists():
    raise UserError(
      "no such stage",
      where=path,
      rule="a trained stage has a run.json",
      remedy="train the stage first, or correct the path",
    )
  try:
    card = json.loads(path.read_text())
    if card["format"] != FORMAT:
      raise ValueError(f"format {card['format']}")
    for name, kind in _FIELDS.items():
      if not isinstance(card[name], kind):
        raise ValueError(f"{name} is a {type(card[name]).__name__}")
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"cannot read the card ({error})",
      where=path,
      rule=f"JSON of format {FORMAT}, as written by training",
      remedy="restore the file, or train the stage again with --overwrite",
    ) from error
  return card


def model_config(stage_folder: Path) -> Any:
  """Returns the config of the model that a stage trained.

  Raises:
    UserError: there is no card, it is damaged, or it is of a stage without a model.
  """
  stored = read_card(stage_folder)["run"]
  if "model" not in stored:
    raise UserError(
      "the card names no model",
      where=stage_folder / "run.json",
      rule="a stage that is loaded trained or imported a model",
      remedy="choose another stage",
    )
  return from_json(stored["model"])


def stage_data(stage_folder: Path) -> Any:
  """Returns the config of the batches that a stage was trained on, None for one that was imported or has no card."""
  return from_json(read_card(stage_folder)["run"].get("data")) if (stage_folder / "run.json").exists() else None


def stage_data_of(stage_folder: Path, kind: type[Kind], *, rule: str, remedy: str) -> Kind:
  """Returns the config of the batches that a stage was trained on, which must be of one kind.

  Args:
    stage_folder: of the stage.
    kind: class of the batches.
    rule: why they must be.
    remedy: what helps where they are not.

  Raises:
    UserError: there is no card, it is damaged, or it is of a stage that was imported or learned from other batches.
  """
  data = from_json(read_card(stage_folder)["run"].get("data"))
  if not isinstance(data, kind):
    was = "imported, not trained here" if data is None else f"trained on {type(data).__name__}"
    raise UserError(f"stage {stage_folder.name!r} was {was}", where=stage_folder, rule=rule, remedy=remedy)
  return data


def card_difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  """Returns one line for each field that makes two runs different: `path: old -> new`."""
  before, after = (_flatten(_without(card["run"], new["ignored"])) for card in (old, new))
  before["starts"], after["starts"] = old["starts"], new["starts"]
  paths = [path for path in sorted(set(before) | set(after)) if before.get(path) != after.get(path)]
  return [f"{path}: {before.get(path)!r} -> {after.get(path)!r}" for path in paths]


def _without(data: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
  """Returns stored fields without those at these dotted paths."""
  kept = dict(data)
  for path in paths:
    head, _, rest = path.partition(".")
    if not rest:
      kept.pop(head, None)
    elif isinstance(kept.get(head), dict):
      kept[head] = _without(kept[head], (rest,))
  return kept


def _relative(data: Any, workdir: str) -> Any:
  if isinstance(data, dict):
    return {key: _relative(value, workdir) for key, value in data.items()}
  if isinstance(data, list):
    return [_relative(value, workdir) for value in data]
  if isinstance(data, str) and (data == workdir or data.startswith(workdir.rstrip("/") + "/")):
    return _WORKDIR + data[len(workdir.rstrip("/")) :]
  return data


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
  if isinstance(data, dict):
    items = [(str(name), value) for name, value in data.items()]
  elif isinstance(data, list) and any(isinstance(value, (dict, list)) for value in data):
    items = [(str(index), value) for index, value in enumerate(data)]
  else:
    return {prefix: data}
  return {
    path: leaf
    for name, value in items
    for path, leaf in _flatten(value, f"{prefix}.{name}" if prefix else name).items()
  }
