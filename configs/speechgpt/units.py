"""SpeechGPT's stage 1, modality adaptation: a language model reads and writes units of speech alone.

Source: arXiv 2305.11000; the recipe and where its figures are from: `configs/speechgpt/recipe.py`.
Command: omni train --config configs/speechgpt/units.py:tiny --workdir runs/tiny
Hardware and hours: the paper used 96 A100 for 900 steps; the tiny run takes one CPU core 5 minutes.
Expect: the loss of units falls below the log of their number.
"""

from pathlib import Path

from configs.speechgpt import recipe, scales
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The made-up world, on a decoder of a few million parameters that starts from nothing."""
  return recipe.units(workdir, scale=scales.TINY)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return recipe.units(workdir, scale=scales.SMOKE)


def full(workdir: Path) -> Run:
  """LLaMA-7B."""
  return recipe.units(workdir, scale=scales.FULL)
