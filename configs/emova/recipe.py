"""EMOVA's three stages on a released base, at any size: what is trained, and how fast.

Source: arXiv 2409.18042 v4, table 5, and the training scripts of github.com/emova-ollm/EMOVA.
"""

import dataclasses
from pathlib import Path

from configs.emova import parts
from configs.emova.parts import Scale
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.initialise import Start
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.tokens.templates import PLAIN
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import Group


def prealign(workdir: Path, *, model: EmovaConfig, scale: Scale) -> Run:
  """Returns stage 0, the paper's stage 1: a new projector on image-text pairs, everything else frozen."""
  sources = (Source(folder=workdir / "corpus" / "images", split="train", view="image_text", weight=1.0),)
  return Run(
    name="prealign",
    model=model,
    loss=parts.loss_of(model),
    optimizer=parts.optimizer(
      scale.rates[0], steps=scale.steps[0], groups=(Group(pattern="decoder|vision", scale=0.0),)
    ),
    data=parts.batches(
      workdir, model=model, scale=dataclasses.replace(scale, template=PLAIN), sources=sources, stage=0
    ),
    steps=scale.steps[0],
    step=scale.step,
    start=(Start(workdir / "stages" / "base", include="decoder|vision"),),
  )


def align(workdir: Path, *, model: EmovaConfig, scale: Scale) -> Run:
  """Returns stage 1, the paper's stage 2: decoder, projector, and the second half of the image tower and its merger."""
  assert isinstance(model.vision, VisionConfig), "EMOVA's native tower"
  corpus, units, depth = workdir / "corpus", workdir / "units", model.vision.depth
  sources = (
    Source(folder=corpus / "images", split="train", view="image_text", weight=4131.5),
    Source(folder=corpus / "text", split="train", view="text", weight=900.0),
    Source(folder=units / "speech", split="train", view="recognise", weight=1276.3, style_dropout=0.1),
    Source(folder=units / "speech", split="train", view="synthesise", weight=1276.3),
  )
  half = (
    Group(pattern="vision", scale=0.0),
    Group(pattern=r"vision\.blocks", scale=1.0, layers=(depth // 2, depth)),
    Group(pattern=r"vision\.merger", scale=1.0),
  )
  return Run(
    name="align",
    model=model,
    loss=parts.loss_of(model),
    optimizer=parts.optimizer(scale.rates[1], steps=scale.steps[1], groups=half),
    data=parts.batches(workdir, model=model, scale=scale, sources=sources, stage=1),
    steps=scale.steps[1],
    step=scale.step,
    start=(Start(workdir / "stages" / "prealign"),),
  )


def tune(workdir: Path, *, model: EmovaConfig, scale: Scale) -> Run:
  """Returns stage 2, the paper's stage 3: everything is trained, the image tower at its own rate."""
  slower = (Group(pattern="vision", scale=scale.vision_rate / scale.rates[2]),)
  return Run(
    name="tune",
    model=model,
    loss=parts.loss_of(model),
    optimizer=parts.optimizer(scale.rates[2], steps=scale.steps[2], groups=slower),
    data=parts.batches(workdir, model=model, scale=scale, sources=parts.instructions(workdir, images=True), stage=2),
    steps=scale.steps[2],
    step=scale.step,
    start=(Start(workdir / "stages" / "align"),),
  )
