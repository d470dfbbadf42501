"""Released parts of speech <-> stages of a working folder, which `omni say`, `omni hear` and `omni encode` use."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.checkpoint.store import Store
from omni_jax.convert.speech_files import (
  EMOVA_PARTS,
  Part,
  SpeechSource,
  part_from,
  part_of,
  read_part,
  write_part,
  write_tokenizer,
  written,
)
from omni_jax.convert.stage import Imported, new_stage
from omni_jax.core.errors import UserError

BESIDE = "beside.npz"  # in the stage: what a file holds beside parameters


def import_part(name: str, source: SpeechSource, workdir: Path, *, stage: str) -> tuple[Path, tuple[str, ...]]:
  """Writes a released part as step 0 of a new stage; returns the stage's folder and what is in it.

  Raises:
    UserError: the stage exists, or the source is missing, damaged or of another model; nothing is written then.
  """
  folder = new_stage(workdir, name=stage)
  part = read_part(name, source)
  store = Store(folder, keep=1)
  store.save(0, params=dict(part.leaves), moments=None, position={"step": 0})
  store.close()
  if part.beside:
    held: Any = dict(part.beside)
    np.savez(folder / BESIDE, **held)
  run = Imported(name=stage, model=part.config, source=source.path.resolve())
  write_card(folder, make_card(run, workdir=workdir, ignored=("source",), starts=()))
  size = sum(leaf.size for leaf in part.leaves.values())
  return folder, (f"{name}: {len(part.leaves)} parameters, {size / 1e6:.3f} M",)


def part_in(stage: Path, config: Any, model: Any) -> Part | None:
  """Returns the part of speech that a stage holds, None if it holds something else."""
  beside: Mapping[str, np.ndarray] = {}
  if (stage / BESIDE).exists():
    with np.load(stage / BESIDE, allow_pickle=False) as held:
      beside = {name: held[name] for name in held.files}
  return part_from(config, model, beside=beside)


def export_part(part: Part, folder: Path, *, scheme: str, other: Part | None = None) -> None:
  """Writes a part in its original's format, EMOVA's two together where the `other` half is given.

  Raises:
    UserError: the part has no such format, or the two are not EMOVA's halves in its Hugging Face format.
  """
  if other is None:
    write_part(part, folder, scheme=scheme)
    return
  halves = {part_of(one.config): one for one in (part, other)}
  if set(halves) != set(EMOVA_PARTS) or scheme == "origin":
    raise UserError(
      f"{part_of(part.config)} with {part_of(other.config)}, --format {scheme}",
      where="--with",
      rule=f"{' and '.join(EMOVA_PARTS)} are the two halves of EMOVA's Hugging Face tokenizer",
      remedy="write the parts one by one",
    )
  hearing, voice = (halves[name] for name in EMOVA_PARTS)
  write_tokenizer(hearing, voice, folder)


def verify_part(part: Part, folder: Path, *, scheme: str) -> tuple[str, ...]:
  """Returns what was compared, after reading a written part again: every parameter has the same bits.

  Raises:
    UserError: the folder is no such part, or one parameter or the config differs; all are told.
  """
  name = part_of(part.config)
  assert name is not None, "only parts of speech are verified here"
  found = read_part(name, written(name, folder, scheme=scheme))
  before, after = ({where: np.asarray(leaf) for where, leaf in one.leaves.items()} for one in (part, found))
  wrong = sorted(set(before) ^ set(after))
  wrong += [where for where in sorted(set(before) & set(after)) if before[where].tobytes() != after[where].tobytes()]
  wrong += [] if found.config == part.config else [f"config: {found.config} instead of {part.config}"]
  if wrong:
    raise UserError(
      f"{len(wrong)} differences:\n    " + "\n    ".join(wrong[:40]),
      where=folder,
      rule="what was written is what the stage holds, bit for bit",
      remedy="export the stage again",
    )
  return (f"{name}: {len(before)} parameters, {sum(leaf.nbytes for leaf in before.values())} bytes: the same bits",)


def publish_part(part: Part, folder: Path, *, scheme: str) -> tuple[str, ...]:
  """Writes a part as `export_part` does, but puts it into `folder` only once it was read again; returns what was told.

  Raises:
    UserError: the part has no such format, the disk is full, or what is read differs; nothing is left behind.
  """
  partial = folder.with_name(folder.name + ".partial")
  shutil.rmtree(partial, ignore_errors=True)
  try:
    export_part(part, partial, scheme=scheme)
    told = verify_part(part, partial, scheme=scheme)
    for path in (path for path in sorted(partial.rglob("*")) if path.is_file()):
      target = folder / path.relative_to(partial)
      target.parent.mkdir(parents=True, exist_ok=True)
      path.replace(target)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return told
