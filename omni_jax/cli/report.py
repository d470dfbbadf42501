"""Write one self-contained HTML page: goals, samples to look at and play, styles, figures, curves, times, configs.

Reads what `omni train` and `omni evaluate` left in the working folder; the page needs no network. Where several systems
were evaluated, the page shows all of them, and evaluation/systems.md holds the table that compares them.
"""

import argparse
from pathlib import Path

from omni_jax.core.files import write_whole
from omni_jax.evaluate.comparison import comparison_table, evaluated_systems
from omni_jax.evaluate.report import write_report

EXAMPLE = "omni report --workdir runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the verb."""
  parser.add_argument("--workdir", type=Path, required=True, help="folder of the run, evaluated")


def run(arguments: argparse.Namespace) -> None:
  """Writes the page and says where."""
  path = write_report(arguments.workdir)
  systems = evaluated_systems(arguments.workdir)
  if len(systems) > 1:
    table = comparison_table(systems)
    write_whole(arguments.workdir / "evaluation" / "systems.md", table + "\n")
    print(table)
  print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB); open it in a browser")
