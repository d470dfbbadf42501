"""What cannot be used is put aside with its reason, counted, and stops the work above a stated share."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Rejected:
  """One entry or record that cannot be used, and why; the reason is one line."""

  id: str
  reason: str


def reason_of(error: UserError) -> str:
  """Returns the reason of a quarantine line: what is wrong, where, and what would have been right."""
  return f"{error.what} ({error.where}): {error.rule}".replace("\n", " ")


def write_quarantine(path: Path, rejected: Iterable[Rejected]) -> None:
  """Writes `path`, one JSON object with `id` and `reason` for each line, whole or not at all."""
  write_whole(path, "".join(json.dumps(dataclasses.asdict(one), ensure_ascii=False) + "\n" for one in rejected))


def require_share(
  rejected: Sequence[Rejected], *, size: int, max_share: float, where: object, path: Path, remedy: str
) -> None:
  """Does nothing if few enough are put aside.

  Args:
    rejected: what is put aside so far.
    size: number of all records.
    max_share: of them that may be put aside.
    where: the source, for the message.
    path: where all reasons are.
    remedy: what else than the source could be changed, for the message.

  Raises:
    UserError: they are too many; it shows the first reasons.
  """
  if len(rejected) <= max_share * size:
    return
  shown = "\n    ".join(f"{one.id}: {one.reason}" for one in rejected[:_SHOWN])
  raise UserError(
    f"{len(rejected)} of {size} records cannot be used:\n    {shown}",
    where=where,
    rule=f"at most {max_share:.1%} of the records are put aside",
    remedy=f"repair the source, or {remedy}; all reasons are in {path}",
  )
