"""SpeechGPT's stage 2, cross-modal instructions: recognition, synthesis, and dialogues in text.

Source: arXiv 2305.11000; the recipe and where its figures are from: `configs/speechgpt/recipe.py`.
Command: omni train --config configs/speechgpt/cross_modal.py:tiny --workdir runs/tiny
Hardware and hours: the paper used 96 A100 for 4,000 steps; the tiny run takes one CPU core 25 minutes.
Expect: a text loss of 0.2 in training, recognition within 5 % of word errors.
"""

from pathlib import Path

from configs.speechgpt import recipe, scales
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The made-up world, on a decoder of a few million parameters that starts from nothing."""
  return recipe.cross_modal(workdir, scale=scales.TINY)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return recipe.cross_modal(workdir, scale=scales.SMOKE)


def full(workdir: Path) -> Run:
  """LLaMA-7B."""
  return recipe.cross_modal(workdir, scale=scales.FULL)
