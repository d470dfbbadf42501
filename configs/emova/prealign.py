"""Vision-language pre-alignment (EMOVA's stage 0, the paper's stage 1): a new projector, everything else frozen.

Source: arXiv 2409.18042, table 5: projector at 1e-3, language model and vision tower frozen, image-text pairs.
Command: omni train --config configs/emova/prealign.py:tiny --workdir runs/tiny
Hardware and hours: 2 CPU cores, under a minute.
"""

from pathlib import Path

from configs.emova import language
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.initialise import Start
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import Group

FROZEN = (Group(pattern="decoder", scale=0.0), Group(pattern="vision", scale=0.0))


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=60)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return _run(workdir, steps=4)


def _run(workdir: Path, *, steps: int) -> Run:
  sources = (Source(folder=workdir / "corpus" / "images", split="train", view="annotations", weight=1.0),)
  return Run(
    name="prealign",
    model=language.TEXT_AND_IMAGES,
    loss=next_token,
    optimizer=language.optimizer(5e-3, steps=steps, groups=FROZEN),
    data=language.batches(workdir, sources=sources, images=3, seed=12),
    steps=steps,
    start=(Start(workdir / "stages" / "pretrain", include="decoder|vision"),),
  )
