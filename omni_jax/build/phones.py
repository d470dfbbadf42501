"""The words of spoken turns as phones, and the list of their symbols that a tokenizer's training reads."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from omni_jax.build.driver import Work
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.phone_sets import PHONE_SETS
from omni_jax.prepare.quarantine import Rejected, reason_of
from omni_jax.prepare.schema import Example, Turn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phones:
  """The step from the words of spoken turns to phones; `name` is one of `prepare.phone_sets`."""

  name: str

  def open(self) -> Work:
    """Returns the step."""
    return self._work

  def _work(self, examples: Sequence[Example]) -> list[Example | Rejected]:
    return [self._with_phones(example) for example in examples]

  def _with_phones(self, example: Example) -> Example | Rejected:
    read = PHONE_SETS[self.name].phones
    try:
      turns = [
        dataclasses.replace(turn, phones=" ".join(read(turn.text))) if _is_spoken(turn) and turn.text else turn
        for turn in example.turns
      ]
    except UserError as error:
      return Rejected(example.id, reason_of(error))
    return dataclasses.replace(example, turns=tuple(turns))


def write_phones(folder: Path, name: str) -> Path:
  """Writes `phones.json`, the symbols of a phone set in the order of their ids, and returns it.

  Raises:
    UserError: the sets in `folder` have phones of another set, or the disk refuses.
  """
  path = folder / "phones.json"
  content = json.dumps(list(PHONE_SETS[name].symbols))
  if path.is_file() and path.read_text() != content:
    raise UserError(
      f"it lists other phones than {name!r}",
      where=path,
      rule="the sets of one working folder share their phones",
      remedy="choose the other --phones, or another --workdir",
    )
  write_whole(path, content)
  return path


def _is_spoken(turn: Turn) -> bool:
  return bool(turn.audio) or len(turn.units) > 0
