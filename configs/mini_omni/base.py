"""Before Mini-Omni's stages in a made-up world: a decoder that writes and an encoder that hears, from nothing.

Source: arXiv 2408.16725; the recipe and where its figures are from: `configs/mini_omni/recipe.py`.
Command: omni train --config configs/mini_omni/base.py:tiny --workdir runs/tiny
Hardware and hours: the paper used 8 A100 and states no time; the tiny run takes one CPU core about 45 minutes.
Expect: a text loss of 0.04 in training.
"""

from pathlib import Path

from configs.mini_omni import recipe, scales
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The made-up world."""
  return recipe.base(workdir, scale=scales.TINY)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return recipe.base(workdir, scale=scales.SMOKE)
