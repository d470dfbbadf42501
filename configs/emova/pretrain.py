"""Pretraining: the decoder learns the language of the corpus, the vision tower learns to describe pictures.

Not a stage of EMOVA, which starts from Qwen2.5 and the tower of Qwen2-VL; here nothing is pretrained.
Command: omni train --config configs/emova/pretrain.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, 6 to 7 minutes.
Expect: a loss of 0.16.
"""

from pathlib import Path

from configs.emova import language
from omni_jax.batches.sources import Source
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=880)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return _run(workdir, steps=8)


def _run(workdir: Path, *, steps: int) -> Run:
  corpus = workdir / "corpus"
  sources = (
    Source(folder=corpus / "text", split="train", view="text", weight=0.25),
    Source(folder=corpus / "images", split="train", view="annotations", weight=0.75),
  )
  return Run(
    name="pretrain",
    model=language.TEXT_AND_IMAGES,
    loss=next_token,
    optimizer=language.optimizer(2.2e-3, steps=steps),
    data=language.batches(workdir, sources=sources, images=3, seed=11),
    steps=steps,
  )
