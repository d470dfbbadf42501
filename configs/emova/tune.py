"""Omni instruction tuning (EMOVA's stage 2, the paper's stage 3): dialogue in every modality, style in and out.

Source: arXiv 2409.18042, table 5: everything trained, the vision tower at a tenth of the rate. A small share of the
samples has all three modalities (here 5 %, EMOVA's is 2.5 %); `tune_without_triples.py` leaves them out.
Command: omni train --config configs/emova/tune.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, about 8 minutes.
Expect: the results table of the README.
"""

from pathlib import Path

from configs.emova import language
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.initialise import Start
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import Group

STEPS, SMOKE_STEPS = 870, 8


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return run(workdir, name="tune", steps=STEPS, triples=0.05)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return run(workdir, name="tune", steps=SMOKE_STEPS, triples=0.05)


def run(workdir: Path, *, name: str, steps: int, triples: float) -> Run:
  """Returns the stage; `triples` is the share of samples with image, speech and text, 0 to leave them out."""
  corpus, units = workdir / "corpus", workdir / "units"
  voices = cast().answering
  sources = (
    Source(folder=corpus / "images", split="train", view="annotations", weight=0.26),
    Source(folder=corpus / "text", split="train", view="text", weight=0.05),
    Source(folder=units / "speech", split="train", view="recognise", weight=0.19, style_dropout=0.1),
    Source(folder=units / "speech", split="train", view="synthesise", weight=0.23, voices=voices, unit_weight=0.5),
    Source(folder=units / "dialogue", split="train", view="dialogue", weight=0.27, style_dropout=0.1, unit_weight=0.5),
  )
  if triples:
    spoken = Source(
      folder=units / "spoken_images", split="train", view="dialogue", weight=triples, style_dropout=0.1, unit_weight=0.5
    )
    sources = (*sources, spoken)
  return Run(
    name=name,
    model=language.ALL_MODALITIES,
    loss=next_token,
    optimizer=language.optimizer(1.5e-3, steps=steps, groups=(Group(pattern="vision", scale=0.1), language.UNIT_ROWS)),
    data=language.batches(workdir, sources=sources, images=2, seed=14),
    steps=steps,
    start=(Start(workdir / "stages" / "align"),),
  )
