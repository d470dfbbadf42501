"""Mini-Omni's stage 3, multi-modal fine-tuning: all tasks, everything learns but the encoder of speech.

Source: arXiv 2408.16725; the recipe and where its figures are from: `configs/mini_omni/recipe.py`.
Command: omni train --config configs/mini_omni/omni.py:tiny --workdir runs/tiny
Hardware and hours: the paper used 8 A100 and states no time; the tiny run takes one CPU core about 35 minutes.
Expect: the losses of all eight rows fall, the first layer of codes first.
"""

from pathlib import Path

from configs.mini_omni import recipe, scales
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The made-up world."""
  return recipe.omni(workdir, scale=scales.TINY)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return recipe.omni(workdir, scale=scales.SMOKE)


def full(workdir: Path) -> Run:
  """Qwen2-0.5B and Whisper-small with the paper's adapter for speech."""
  return recipe.omni(workdir, scale=scales.FULL)
