"""`omni evaluate`: every task in turn, each kept as soon as it is done, then one table of all figures.

A task whose settings, models and test sets have not changed since it last ran is not run again.
"""

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omni_jax.checkpoint.card import read_card
from omni_jax.checkpoint.store import latest_step
from omni_jax.core.config import to_json
from omni_jax.core.errors import UserError
from omni_jax.evaluate import dialogue_tasks, image_tasks, speech_tasks, style_tasks, timing_tasks
from omni_jax.evaluate.context import Context, Evaluation
from omni_jax.evaluate.figures import Outcome, read_json, write_json, write_lines
from omni_jax.evaluate.system import Progress, System
from omni_jax.evaluate.systems import NEEDS, system_kind
from omni_jax.speech.lengths import LENGTHS_FILE

TASKS: Mapping[str, Callable[[Context], Outcome]] = {
  "tokenizer": speech_tasks.tokenizer,
  "recognition": speech_tasks.recognition,
  "images": image_tasks.images,
  "spoken_images": image_tasks.spoken_images,
  "dialogue": dialogue_tasks.dialogue,
  "emotion_heard": dialogue_tasks.emotion_heard,
  "style": style_tasks.style,
  "synthesis": speech_tasks.synthesis,
  "timings": timing_tasks.timings,
}
_PACKAGES = ("omni_jax", "jax", "flax", "optax", "grain", "numpy", "pocketsphinx", "soundfile")


def evaluate(
  settings: Evaluation,
  workdir: Path,
  *,
  system: str = "emova",
  tasks: Sequence[str] = (),
  overwrite: bool = False,
  load: Callable[..., Any] | None = None,
) -> dict[str, Any]:
  """Returns the results, which also lie in `<workdir>/evaluation/results.json`, of other systems in their folders.

  Args:
    settings: how much to evaluate.
    workdir: holds the corpus and the trained stages.
    system: a name among `evaluate.systems.SYSTEMS`.
    tasks: names among `TASKS`; all if empty. Results of the others stay as they are; what a system cannot do is left
      out, with the reason.
    overwrite: run tasks again that are up to date.
    load: makes an assistant of `(workdir, stage=...)`; by default the system's own.

  Raises:
    UserError: an unknown task or system, or a stage or a test set that is not there.
  """
  kind = system_kind(system)
  settings, chosen = kind.settings(settings), _check_tasks(tasks or kind.tasks)
  folder = kind.results(workdir)
  identity = _identity(settings, workdir, parts=kind.parts)
  stale = [name for name in chosen if overwrite or _stored(folder, name).get("fingerprint") != identity]
  if stale:
    with progress_bars() as progress:
      context = _context(settings, workdir, folder=folder, progress=progress, load=load or kind.load)
      for name in stale:
        _run_task(name, context, identity=identity)
  results = {"system": system, **_collect(settings, folder, tasks=kind.tasks or tuple(TASKS))}
  write_json(folder / "results.json", results)
  return results


def _run_task(name: str, context: Context, *, identity: str) -> None:
  start, cpu_start = time.perf_counter(), time.process_time()
  need = NEEDS.get(name)
  lacking = need is not None and need not in context.system.abilities
  outcome = Outcome(figures=(), samples=()) if lacking else TASKS[name](context)
  write_lines(context.folder / f"{name}.jsonl", outcome.samples)
  stored = {
    "fingerprint": identity,
    "seconds": round(time.perf_counter() - start, 2),
    "cpu_seconds": round(time.process_time() - cpu_start, 2),
    "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "figures": [figure.to_json(name) for figure in outcome.figures],
    "tables": outcome.tables,
  }
  if lacking and need is not None:
    stored["skipped"] = f"for a system that {need.value}; this one does not"
  # Last, so that a task counts as done only with all its samples on disk.
  write_json(context.folder / f"{name}.json", stored)


def _context(
  settings: Evaluation, workdir: Path, *, folder: Path, progress: Progress, load: Callable[..., Any]
) -> Context:
  phones = read_json(workdir / "corpus" / "phones.json", remedy="run `omni corpus` first")

  def system(stage: str) -> System:
    assistant, size = load(workdir, stage=stage), settings.batch_size
    return System(assistant, phones=phones, batch_size=size, readings=settings.readings, progress=progress)

  twin = settings.without_triples
  return Context(
    settings=settings,
    workdir=workdir,
    folder=folder,
    system=system(settings.stage),
    without_triples=system(twin) if twin and latest_step(workdir / "stages" / twin) is not None else None,
    progress=progress,
  )


def _collect(settings: Evaluation, folder: Path, *, tasks: Sequence[str]) -> dict[str, Any]:
  """Returns all that is stored of any task, in the order of `TASKS`."""
  stored = {name: _stored(folder, name) for name in TASKS}
  done = {name: found for name, found in stored.items() if found}
  return {
    "settings": to_json(settings),
    "figures": [figure for found in done.values() for figure in found["figures"]],
    "tables": {name: found["tables"] for name, found in done.items() if found["tables"]},
    "seconds": {name: found["seconds"] for name, found in done.items()},
    "cpu_seconds": {name: found["cpu_seconds"] for name, found in done.items()},
    "finished": max((found["finished"] for found in done.values()), default=""),
    "not_run": [name for name, found in stored.items() if not found and name in tasks],
    "skipped": {name: found["skipped"] for name, found in done.items() if "skipped" in found},
    "intervals": "95 %, bootstrap over samples, seeded",
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    "machine": f"{platform.system()} {platform.machine()}, {settings.workers} workers, flite: {_flite()}",
  }


def _flite() -> str:
  return "installed" if shutil.which("flite") else "not installed here"


def _stored(folder: Path, name: str) -> dict[str, Any]:
  path = folder / f"{name}.json"
  return read_json(path, remedy="delete it, and the task is run again") if path.is_file() else {}


def _identity(settings: Evaluation, workdir: Path, *, parts: Sequence[str]) -> str:
  """Returns a fingerprint of the settings, the stages used, the test sets and the lengths of texts."""
  known: dict[str, Any] = {"settings": to_json(settings)}
  for stage in filter(None, (*parts, settings.stage, settings.without_triples)):
    folder = workdir / "stages" / stage
    needed = stage == settings.stage or folder.is_dir()
    known[stage] = [read_card(folder)["fingerprint"], latest_step(folder)] if needed else None
  lengths = workdir / "units" / LENGTHS_FILE  # judges readings
  for path in [*sorted((workdir / "corpus").glob("*/*.json")), *([lengths] if lengths.exists() else [])]:
    known[f"{path.parent.name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
  return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def _check_tasks(tasks: Sequence[str]) -> list[str]:
  unknown = [name for name in tasks if name not in TASKS]
  if unknown:
    raise UserError(
      f"unknown task {', '.join(map(repr, unknown))}",
      where="--tasks",
      rule=f"tasks are {', '.join(TASKS)}",
      remedy="separate several by commas, for example --tasks recognition,images",
    )
  return [name for name in TASKS if name in tasks or not tasks]


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
  """Shows a bar for each piece of work; a plain line for each finished one where there is no terminal."""
  from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
  from rich.progress import Progress as Bars

  columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
  with Bars(*columns, TextColumn("left"), TimeRemainingColumn()) as bars:

    def start(name: str, total: int) -> Callable[[int], object]:
      task = bars.add_task(name, total=max(total, 1), completed=0 if total else 1)
      return lambda count: bars.advance(task, count)

    yield start


def limited(settings: Evaluation, limit: int | None) -> Evaluation:
  """Returns `settings` with at most `limit` samples of anything.

  Raises:
    UserError: the limit is not positive.
  """
  if limit is not None and limit < 1:
    raise UserError(f"limit {limit}", where="--limit", rule="a limit is at least 1", remedy="for example --limit 20")
  return settings.at_most(limit)
