"""EMOVA at its published sizes, three stages each; and the same stages on whatever base was imported.

Source: arXiv 2409.18042 v4, table 5; sizes of models/sizes.py, the image tower of Qwen2-VL for all of them.
Command (docs/base_models.md has the steps before it):
  omni train --config configs/emova/full.py:emova_7b_prealign --workdir runs/7b --mesh fsdp=128
  omni train --config configs/emova/full.py:emova_7b_align --workdir runs/7b --mesh fsdp=128
  omni train --config configs/emova/full.py:emova_7b_tune --workdir runs/7b --mesh fsdp=128
Hardware and hours: EMOVA used 128 accelerators of 64 GB and states no time; these runs were never done here.
Expect: LibriSpeech test-clean word errors of 5.4, 4.1 and 2.9 % at 3B, 7B and 72B (table 2 there).
"""

import dataclasses
from pathlib import Path

from configs.emova import parts, recipe
from configs.emova.parts import FULL, Scale
from omni_jax.models.sizes import QWEN2_5_0_5B, QWEN2_5_3B, QWEN2_5_7B, QWEN2_5_72B
from omni_jax.tokens.templates import TEMPLATES, template_of
from omni_jax.train.loop import Run
from omni_jax.train.step import PLAIN

# Their 72B learns half as fast, its image tower as all others.
LARGEST = dataclasses.replace(FULL, rates=(1e-3, 1e-5, 1e-5))
# The same code in seconds, on a base of a few thousand parameters; the published requests are too long for its rows.
TINY = dataclasses.replace(
  FULL,
  rows=(2, 2, 2),
  length=192,
  image_tokens=32,
  largest_image=16,
  steps=(4, 4, 4),
  rates=(1e-2, 3e-3, 3e-3),
  step=PLAIN,
  template=dataclasses.replace(FULL.template, system="", transcribe=("hear: ",), say=("say: ",), respond=("do: ",)),
)


def emova_0_5b_prealign(workdir: Path) -> Run:
  """0.5B, a new projector. Unpublished, from the first version of their code."""
  return recipe.prealign(workdir, model=parts.on(QWEN2_5_0_5B, workdir), scale=FULL)


def emova_0_5b_align(workdir: Path) -> Run:
  """0.5B, image-text and speech-text."""
  return recipe.align(workdir, model=parts.on(QWEN2_5_0_5B, workdir), scale=FULL)


def emova_0_5b_tune(workdir: Path) -> Run:
  """0.5B, instructions, twice over them."""
  twice = dataclasses.replace(FULL, steps=(*FULL.steps[:2], 2 * FULL.steps[2]))
  return recipe.tune(workdir, model=parts.on(QWEN2_5_0_5B, workdir), scale=twice)


def emova_3b_prealign(workdir: Path) -> Run:
  """3B, a new projector."""
  return recipe.prealign(workdir, model=parts.on(QWEN2_5_3B, workdir), scale=FULL)


def emova_3b_align(workdir: Path) -> Run:
  """3B, image-text and speech-text."""
  return recipe.align(workdir, model=parts.on(QWEN2_5_3B, workdir), scale=FULL)


def emova_3b_tune(workdir: Path) -> Run:
  """3B, instructions."""
  return recipe.tune(workdir, model=parts.on(QWEN2_5_3B, workdir), scale=FULL)


def emova_7b_prealign(workdir: Path) -> Run:
  """7B, a new projector."""
  return recipe.prealign(workdir, model=parts.on(QWEN2_5_7B, workdir), scale=FULL)


def emova_7b_align(workdir: Path) -> Run:
  """7B, image-text and speech-text."""
  return recipe.align(workdir, model=parts.on(QWEN2_5_7B, workdir), scale=FULL)


def emova_7b_tune(workdir: Path) -> Run:
  """7B, instructions."""
  return recipe.tune(workdir, model=parts.on(QWEN2_5_7B, workdir), scale=FULL)


def emova_72b_prealign(workdir: Path) -> Run:
  """72B, a new projector."""
  return recipe.prealign(workdir, model=parts.on(QWEN2_5_72B, workdir), scale=LARGEST)


def emova_72b_align(workdir: Path) -> Run:
  """72B, image-text and speech-text."""
  return recipe.align(workdir, model=parts.on(QWEN2_5_72B, workdir), scale=LARGEST)


def emova_72b_tune(workdir: Path) -> Run:
  """72B, instructions."""
  return recipe.tune(workdir, model=parts.on(QWEN2_5_72B, workdir), scale=LARGEST)


def own_prealign(workdir: Path) -> Run:
  """Whatever is in the stage `base`, a new projector."""
  return recipe.prealign(workdir, model=parts.imported(workdir), scale=_own(workdir))


def own_align(workdir: Path) -> Run:
  """Whatever was in the stage `base`, image-text and speech-text."""
  return recipe.align(workdir, model=parts.imported(workdir), scale=_own(workdir))


def own_tune(workdir: Path) -> Run:
  """Whatever was in the stage `base`, instructions."""
  return recipe.tune(workdir, model=parts.imported(workdir), scale=_own(workdir))


def tiny_prealign(workdir: Path) -> Run:
  """`own_prealign` in seconds, on a tiny base."""
  return recipe.prealign(workdir, model=parts.imported(workdir), scale=TINY)


def tiny_align(workdir: Path) -> Run:
  """`own_align` in seconds, on a tiny base."""
  return recipe.align(workdir, model=parts.imported(workdir), scale=TINY)


def tiny_tune(workdir: Path) -> Run:
  """`own_tune` in seconds, on a tiny base."""
  return recipe.tune(workdir, model=parts.imported(workdir), scale=TINY)


def _own(workdir: Path) -> Scale:
  """Returns FULL with the template whose special tokens the imported base has."""
  return dataclasses.replace(FULL, template=TEMPLATES[template_of(parts.vocabulary(workdir).specials)])
