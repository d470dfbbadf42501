"""Look at data before it is trained on: what sets hold, what one record becomes, how fast batches come.

inspect   counts, hours, lengths, skew of styles, records that occur twice, and what splits share (leakage)
show      one record as an HTML page: its image, its sound, the grid with what is learned
bench     examples and tokens in a second, padding, the time of each stage, and whether an accelerator would wait
"""

import argparse
import itertools
from pathlib import Path

from omni_jax.batches.exhibit import page
from omni_jax.batches.packing import Packed
from omni_jax.batches.planned import Planned
from omni_jax.batches.survey import Survey, described, leak_lines, survey
from omni_jax.batches.timing import rates, stages, step_seconds
from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.writer import read_splits
from omni_jax.tokens.dialogue import TOKENIZER_FILE
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.train.loop import Run
from omni_jax.train.metrics import read_metrics

EXAMPLE = """omni data inspect --workdir runs/tiny
  omni data show 17 --config configs/emova/tune.py:tiny --workdir runs/tiny --source 4 --out record.html
  omni data bench --config configs/emova/tune.py:tiny --workdir runs/tiny"""
_TRAINING = "train"
_SOURCES = ("corpus", "units")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni data`."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  actions = parser.add_subparsers(dest="action", required=True)
  inspect = actions.add_parser("inspect", help="what record sets hold and share")
  inspect.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  inspect.add_argument("--sets", nargs="+", default=[], metavar="FOLDER", help="in it; all in corpus and units if none")
  inspect.add_argument("--evaluation", nargs="+", default=[], type=Path, metavar="FOLDER", help="sets to keep unseen")
  for name, told in (("show", "one record as a page"), ("bench", "how fast batches come")):
    action = actions.add_parser(name, help=told)
    action.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="a run on packed batches")
    action.add_argument("--workdir", required=True, type=Path, help="the working folder")
    action.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field")
    if name == "show":
      action.add_argument("number", type=int, metavar="N", help="of the record, from 0")
      action.add_argument("--source", type=int, default=0, help="of the run, from 0")
      action.add_argument("--out", type=Path, default=Path("record.html"), help="the page")
    else:
      action.add_argument("--batches", type=int, default=20, help="to read")
      action.add_argument("--step-seconds", type=float, help="of the accelerator; else from the stage's metrics")


def run(arguments: argparse.Namespace) -> None:
  """Inspects, shows or measures."""
  {"inspect": _inspect, "show": _show, "bench": _bench}[arguments.action](arguments)


def _inspect(arguments: argparse.Namespace) -> None:
  workdir = arguments.workdir
  folders = [workdir / name for name in arguments.sets] or [
    folder for name in _SOURCES for folder in sorted((workdir / name).glob("*")) if read_splits(folder)
  ]
  if not folders:
    raise UserError("no sets", where=workdir, rule="sets are in corpus and units", remedy="run `omni corpus` first")
  tokenizer = load_tokenizer(workdir / "text") if (workdir / "text" / TOKENIZER_FILE).exists() else None
  count_tokens = None if tokenizer is None else lambda text: len(tokenizer.encode(text))
  found: list[Survey] = []
  outside = [folder for folder in arguments.evaluation if folder not in folders]
  for folder in [*folders, *outside]:
    for split in _splits(folder):
      records = ExampleSource(folder, split)
      name = f"{folder.parent.name}/{folder.name}/{split}"
      found.append(survey(name, records, count_tokens=count_tokens))
      print("\n".join(described(found[-1])), flush=True)
  _tell_leaks(found, kept=tuple(f"{folder.parent.name}/{folder.name}/" for folder in arguments.evaluation))


def _tell_leaks(found: list[Survey], *, kept: tuple[str, ...]) -> None:
  """Prints what training splits share with the others, or with the sets that are to stay unseen."""
  print("leakage:")
  lines = []
  for one, other in itertools.permutations(found, 2):
    trained = one.name.endswith(f"/{_TRAINING}") and not (kept and one.name.startswith(kept))
    unseen = other.name.startswith(kept) if kept else not other.name.endswith(f"/{_TRAINING}")
    if trained and unseen:
      lines += leak_lines(one, other)
  print("\n".join(lines) or "  none: no sample, image or text of a training split is in another split")


def _splits(folder: Path) -> list[str]:
  splits = sorted(read_splits(folder))
  if not splits:
    raise UserError("no such set", where=folder, rule="a record set lies there", remedy="correct the path")
  return splits


def _data(arguments: argparse.Namespace) -> tuple[Run, Packed]:
  chosen = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,), settings=arguments.set)
  if not isinstance(chosen.data, Packed):
    raise UserError(
      f"the run reads {type(chosen.data).__name__}",
      where=f"--config {arguments.config}",
      rule="this looks at the packed batches of a language model",
      remedy="choose a config such as configs/emova/tune.py:tiny",
    )
  return chosen, chosen.data


def _show(arguments: argparse.Namespace) -> None:
  _, data = _data(arguments)
  if not 0 <= arguments.source < len(data.sources):
    raise UserError(
      f"no source {arguments.source}",
      where="--source",
      rule=f"the run has the sources 0 to {len(data.sources) - 1}: "
      + ", ".join(f"{source.folder.name} as {source.view}" for source in data.sources),
      remedy="choose one of these",
    )
  source = data.sources[arguments.source]
  records = ExampleSource(source.folder, source.split)
  if not 0 <= arguments.number < len(records):
    raise UserError(
      f"no record {arguments.number}",
      where=f"{source.folder}, split {source.split}",
      rule=f"records are numbered 0 to {len(records) - 1}",
      remedy="choose one of these",
    )
  example, reading = records[arguments.number], data.read_as()
  grid = reading.writer(source).measure(example, hear_style=source.style_dropout < 1).grid
  where = f"{source.folder}, split {source.split}, record {arguments.number}"
  write_whole(arguments.out, page(example, grid, meanings=reading.meanings(), view=source.view, where=where))
  print(arguments.out)


def _bench(arguments: argparse.Namespace) -> None:
  chosen, data = _data(arguments)
  found = rates(data, batches=arguments.batches)
  print(f"{chosen.name}: {data.rows} rows of {data.length} tokens, {len(data.sources)} sources")
  print(f"  first batch after {found.first:.2f} s, each further one {found.batch * 1e3:.1f} ms")
  print(f"  {found.examples:.0f} examples/s, {found.tokens:.0f} tokens/s")
  print(f"  padding: {found.padding:.2%} of the tokens, {found.file_padding:.2%} of the places for images or sound")
  if isinstance(data, Planned):
    spent = stages(data, rows=min(4 * data.rows, 64))
    for name, seconds in spent.items():
      print(f"  {name:<14} {seconds * 1e3:8.2f} ms a batch, {seconds / sum(spent.values()):4.0%}")
  step = arguments.step_seconds or step_seconds(read_metrics(arguments.workdir / "stages" / chosen.name))
  if step is None:
    print("  the stage was not trained here: give --step-seconds to see whether an accelerator would wait")
    return
  waits = max(found.batch - step, 0) / max(found.batch, step)
  told = f"would wait {waits:.0%} of its time" if waits else f"would not wait: reading takes {found.batch / step:.0%}"
  print(f"  an accelerator with steps of {step * 1e3:.0f} ms {told}")
