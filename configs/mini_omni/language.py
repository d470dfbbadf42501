"""Mini-Omni's stage 2, adaption: the language model learns to answer speech in text, the adapters rest.

Source: arXiv 2408.16725; the recipe and where its figures are from: `configs/mini_omni/recipe.py`.
Command: omni train --config configs/mini_omni/language.py:tiny --workdir runs/tiny
Hardware and hours: the paper used 8 A100 and states no time; the tiny run takes one CPU core 8 minutes.
Expect: the text loss of recognition and of answers falls; codes are not looked at.
"""

from pathlib import Path

from configs.mini_omni import recipe, scales
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The made-up world."""
  return recipe.language(workdir, scale=scales.TINY)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return recipe.language(workdir, scale=scales.SMOKE)


def full(workdir: Path) -> Run:
  """Qwen2-0.5B and Whisper-small with the paper's adapter for speech."""
  return recipe.language(workdir, scale=scales.FULL)
