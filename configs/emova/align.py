"""Omni alignment (EMOVA's stage 1, the paper's stage 2): image-text and speech-text together, never all three.

Source: arXiv 2409.18042, table 5: language model and projector trained, of the vision tower the second half of its
blocks and the merger. The vocabulary grows by 4096 units and the style tokens here.
Command: omni train --config configs/emova/align.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, about 10 minutes.
Expect: a text loss of 0.08, a unit loss of 1.5; 68 % of the units right.
"""

from pathlib import Path

from configs.emova import language
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.initialise import Start
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import Group


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=1080)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return _run(workdir, steps=8)


def _run(workdir: Path, *, steps: int) -> Run:
  corpus, units = workdir / "corpus", workdir / "units"
  voices = cast().answering
  sources = (
    Source(folder=corpus / "images", split="train", view="annotations", weight=0.33),
    Source(folder=units / "speech", split="train", view="recognise", weight=0.34, style_dropout=0.1),
    Source(folder=units / "speech", split="train", view="synthesise", weight=0.33, voices=voices, unit_weight=0.5),
  )
  half = language.TEXT_AND_IMAGES.vision.depth // 2
  return Run(
    name="align",
    model=language.ALL_MODALITIES,
    loss=next_token,
    optimizer=language.optimizer(
      2.2e-3,
      steps=steps,
      groups=(
        Group(pattern="vision", scale=0.0),
        Group(pattern=r"vision\.blocks", scale=1.0, layers=(half, language.TEXT_AND_IMAGES.vision.depth)),
        Group(pattern=r"vision\.merger", scale=1.0),
        language.UNIT_ROWS,
      ),
    ),
    data=language.batches(workdir, sources=sources, images=3, seed=13),
    steps=steps,
    start=(Start(workdir / "stages" / "prealign"),),
  )
