"""Starting from another stage: which parameters are taken over, with a complete report.

The order of precedence for a parameter: the stage's own checkpoint (resume), the last `Start` that offers it, its
initial draw.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from omni_jax.checkpoint import store
from omni_jax.checkpoint.card import read_card
from omni_jax.core import trees
from omni_jax.core.arrays import Array
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole


@dataclasses.dataclass(frozen=True)
class Start:
  """Parameters to take from the newest checkpoint of another stage.

  `include` and `exclude` are regular expressions over a whole path or a whole leading part of it; an empty `exclude`
  excludes nothing.
  """

  checkpoint: Path  # a stage folder, <workdir>/stages/<stage>
  include: str = ".*"
  exclude: str = ""

  def takes(self, path: str) -> bool:
    """Whether the parameter of this path is taken over."""
    return trees.matches(self.include, path) and not (self.exclude and trees.matches(self.exclude, path))


class Report(NamedTuple):
  """What became of every name."""

  loaded: dict[str, str]  # path -> stage folder it came from
  new: tuple[str, ...]  # paths of the model that keep their initial draw
  unused: dict[str, tuple[str, ...]]  # stage folder -> its paths that the model did not take

  def lines(self) -> list[str]:
    """Returns the report as text, one line for each leading name."""
    lines = [f"start: {len(self.loaded)} loaded, {len(self.new)} new"]
    for folder in sorted(set(self.loaded.values())):
      taken = [path for path, source in self.loaded.items() if source == folder]
      lines.append(f"  from {folder}: {_summary(taken)}")
    lines += [f"  new: {_summary(self.new)}"] if self.new else []
    lines += [f"  unused in {folder}: {_summary(paths)}" for folder, paths in self.unused.items() if paths]
    return lines

  def write(self, path: Path) -> None:
    """Writes the whole report, name by name, as JSON."""
    write_whole(path, json.dumps(self._asdict(), indent=1) + "\n")


def start_fingerprints(starts: tuple[Start, ...]) -> tuple[str, ...]:
  """Returns `fingerprint@step` of every source, so that a stage whose source was trained anew is a new stage."""
  return tuple(
    f"{read_card(start.checkpoint)['fingerprint']}@{store.require_step(start.checkpoint)}" for start in starts
  )


def load_starts(starts: tuple[Start, ...], abstract: dict[str, Any]) -> tuple[dict[str, Array], Report]:
  """Returns the parameters taken over and the report.

  Args:
    starts: later ones override earlier ones.
    abstract: dotted path -> shape with sharding, of the whole model.

  Raises:
    UserError: a source is missing, a pattern is wrong or takes nothing, or shapes differ.
  """
  loaded: dict[str, Array] = {}
  sources: dict[str, str] = {}
  unused: dict[str, tuple[str, ...]] = {}
  for start in starts:
    folder = Path(start.checkpoint)
    _check_patterns(start)
    step = store.require_step(folder)
    stored = store.stored_shapes(folder, step=step)
    taken = {path: abstract[path] for path in sorted(stored) if path in abstract and start.takes(path)}
    if not taken:
      raise UserError(
        f"include {start.include!r}, exclude {start.exclude!r} take no parameter that the model has",
        where=folder,
        rule=f"its parameters are {_summary(sorted(stored))}; the model's are {_summary(sorted(abstract))}",
        remedy="correct the patterns, or remove the start",
      )
    store.check_shapes(
      {path: stored[path] for path in taken}, {path: leaf.shape for path, leaf in taken.items()}, where=folder
    )
    loaded |= store.load_params(folder, taken, step=step)
    sources |= dict.fromkeys(taken, str(folder))
    unused[str(folder)] = tuple(path for path in sorted(stored) if path not in taken)
  new = tuple(path for path in sorted(abstract) if path not in loaded)
  return loaded, Report(loaded=sources, new=new, unused=unused)


def _check_patterns(start: Start) -> None:
  for field in ("include", "exclude"):
    try:
      re.compile(getattr(start, field))
    except re.error as error:
      raise UserError(
        f"{field} {getattr(start, field)!r} is not a regular expression ({error})",
        where=start.checkpoint,
        rule="patterns are Python regular expressions over dotted paths",
        remedy="correct it",
      ) from error


def _summary(paths: Any) -> str:
  """Returns paths counted by their first two names: `decoder.blocks (12), vision.patch (2)`."""
  counts: dict[str, int] = {}
  for path in paths:
    head = ".".join(path.split(".")[:2])
    counts[head] = counts.get(head, 0) + 1
  return ", ".join(f"{head} ({number})" if number > 1 else head for head, number in counts.items()) or "none"
