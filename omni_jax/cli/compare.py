"""Compare speech tokenizers: how well phones can be read from their units, and how much style the units let slip.

One small network reads the units of every tokenizer; the same words in all 24 styles show whether units stay the same.
Writes evaluation/units/<tokenizer>.json and the table evaluation/units/table_<set>.md; what is up to date is not
computed again. The sets `styles` and `mandarin` are made by `omni corpus --config configs/emova/corpus.py:additions`.
"""

import argparse
from pathlib import Path

from omni_jax.cli.configs import load_config
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.files import write_whole
from omni_jax.evaluate.run import progress_bars
from omni_jax.evaluate.unit_tasks import FOLDER, Comparison, compare, comparison_table

EXAMPLE = "omni compare --config configs/emova/compare.py:tiny --workdir runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni compare`."""
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="which tokenizers, on which speech")
  parser.add_argument("--workdir", required=True, type=Path, help="folder of the run, with corpus and stages")
  parser.add_argument(
    "--set", action="append", default=[], metavar="PATH=VALUE", help="change a field; may be repeated"
  )
  parser.add_argument("--overwrite", action="store_true", help="compute what is up to date again")


def run(arguments: argparse.Namespace) -> None:
  """Compares and prints the table."""
  enable_compilation_cache()
  config = load_config(arguments.config, returns=Comparison, settings=arguments.set)
  with progress_bars() as progress:
    results = compare(config, arguments.workdir, progress=progress, overwrite=arguments.overwrite)
  table, path = comparison_table(results), arguments.workdir / "evaluation" / FOLDER / f"table_{config.speech}.md"
  write_whole(path, table + "\n")
  print(table)
  print(f"wrote {path}")
