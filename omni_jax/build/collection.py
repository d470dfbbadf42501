"""Published mixtures as configs: which record sets a release becomes, and how many records its authors count."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from omni_jax.build.driver import Made, Preparation, Runner, prepare
from omni_jax.build.processes import HERE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """One set of a collection.

  Attributes:
    name: of the set, below the working folder: `corpus/images`, `units/speech`.
    preparation: how it is made.
    published: records that its authors state; 0: they state none.
    split: of the set.
  """

  name: str
  preparation: Preparation
  published: int = 0
  split: str = "train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
  """The sets of a published mixture."""

  members: tuple[Member, ...]


def collect(
  collection: Collection, workdir: Path, *, run: Runner = HERE, say: Callable[[str], None] = print
) -> dict[str, Made]:
  """Makes every set that is not there yet, and returns what each holds by its name.

  Raises:
    UserError: a set cannot be made; those before it are kept.
  """
  made = {}
  for member in collection.members:
    made[member.name] = prepare(member.preparation, workdir / member.name, member.split, run=run, say=say)
    told = f" of {member.published} published" if member.published else ""
    say(f"{member.name} {member.split}: {made[member.name].records} records{told}, "
        f"{made[member.name].rejected} put aside")  # fmt: skip
  return made
