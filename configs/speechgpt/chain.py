"""SpeechGPT's stage 3, chain of modality: hear, think in text, speak; by adapters on an 8-bit base.

Source: arXiv 2305.11000; the recipe and where its figures are from: `configs/speechgpt/recipe.py`.
Command: omni train --config configs/speechgpt/chain.py:tiny --workdir runs/tiny
Hardware and hours: the paper used 8 A100 for 4,200 steps; the tiny run takes one CPU core 20 minutes.
Expect: the loss of chains falls to 0.53 (`tiny`) while the base stays.
"""

from pathlib import Path

from configs.speechgpt import recipe, scales
from omni_jax.train.loop import Run


def tiny(workdir: Path) -> Run:
  """The made-up world, on a decoder of a few million parameters that starts from nothing."""
  return recipe.chain(workdir, scale=scales.TINY)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return recipe.chain(workdir, scale=scales.SMOKE)


def full(workdir: Path) -> Run:
  """LLaMA-7B."""
  return recipe.chain(workdir, scale=scales.FULL)
