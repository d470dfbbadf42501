"""Instruction tuning without any sample of three modalities: does alignment compose, as EMOVA claims?

The same as `tune.py` but for that share.
Command: omni train --config configs/emova/tune_without_triples.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, about 8 minutes.
"""

from pathlib import Path

from configs.emova import tune
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return tune.run(workdir, name="tune_without_triples", steps=tune.STEPS, triples=0.0)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return tune.run(workdir, name="tune_without_triples", steps=tune.SMOKE_STEPS, triples=0.0)
