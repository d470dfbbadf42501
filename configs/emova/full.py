"""EMOVA at its published sizes, three stages each; and the same stages on whatever base was imported.

Source: arXiv 2409.18042 v4, table 5; sizes of models/sizes.py, the image tower of Qwen2-VL for all of them.
Command (docs/base_models.md has the steps before it):
  omni train --config configs/emova/full.py:emova_7b_prealign --workdir runs/7b --mesh fsdp=4,tensor=4,sequence=8
  omni train --config configs/emova/full.py:emova_7b_align --workdir runs/7b --mesh fsdp=4,tensor=4,sequence=8
  omni train --config configs/emova/full.py:emova_7b_tune --workdir runs/7b --mesh fsdp=4,tensor=4,sequence=8
Hardware and hours: EMOVA used 128 accelerators of 64 GB and states no time; these runs were never done here.
Expect: LibriSpeech test-clean word errors of 5.4, 4.1 and 2.9 % at 3B, 7B and 72B (table 2 there).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from configs.emova import parts, recipe
from configs.emova.parts import FULL, Scale
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.sizes import QWEN2_5_0_5B, QWEN2_5_3B, QWEN2_5_7B, QWEN2_5_72B
from omni_jax.tokens.templates import TEMPLATES, template_of
from omni_jax.train.loop import Run
from omni_jax.train.step import PLAIN

# 0.5B is unpublished, from the first version of their code: twice over the instructions.
SMALLEST = dataclasses.replace(FULL, steps=(*FULL.steps[:2], 2 * FULL.steps[2]))
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


def _stages(
  model: Callable[[Path], EmovaConfig], scale: Callable[[Path], Scale] = lambda _: FULL
) -> tuple[Callable[[Path], Run], ...]:
  """Returns the functions that make the three stages of a model in a working folder."""

  def of(stage: Callable[..., Run]) -> Callable[[Path], Run]:
    return lambda workdir: stage(workdir, model=model(workdir), scale=scale(workdir))

  return of(recipe.prealign), of(recipe.align), of(recipe.tune)


def _on(size: DecoderConfig) -> Callable[[Path], EmovaConfig]:
  return lambda workdir: parts.on(size, workdir)


def _own(workdir: Path) -> Scale:
  """Returns FULL with the template whose special tokens the imported base has."""
  return dataclasses.replace(FULL, template=TEMPLATES[template_of(parts.vocabulary(workdir).specials)])


# Each: a new projector; image-text and speech-text; instructions.
emova_0_5b_prealign, emova_0_5b_align, emova_0_5b_tune = _stages(_on(QWEN2_5_0_5B), lambda _: SMALLEST)
emova_3b_prealign, emova_3b_align, emova_3b_tune = _stages(_on(QWEN2_5_3B))
emova_7b_prealign, emova_7b_align, emova_7b_tune = _stages(_on(QWEN2_5_7B))
emova_72b_prealign, emova_72b_align, emova_72b_tune = _stages(_on(QWEN2_5_72B), lambda _: LARGEST)
# On whatever is in the stage `base`; the same in seconds, on a tiny base.
own_prealign, own_align, own_tune = _stages(parts.imported, _own)
tiny_prealign, tiny_align, tiny_tune = _stages(parts.imported, lambda _: TINY)
