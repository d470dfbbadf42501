"""The vocoder of the tiny journey: reduced units and a style -> 16 kHz speech in the assistant's two voices.

Source: EMOVA (arXiv 2409.18042) speaks through a VITS decoder conditioned on 24 styles; here a source-filter network
with an inverse-STFT head (`omni_jax/speech/vocoder.py`), which a laptop trains in minutes.
Command: omni train --config configs/emova/vocoder.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, 3 minutes after the 6 of `vocoder_filters.py`.
Expect: a distance of 0.34 between log mel magnitudes in training; resynthesised held-out speech 8 points of word error
rate above the recordings.
"""

import dataclasses
from pathlib import Path

from configs.emova.vocoder_filters import MODEL, PROSODY, analysis, clips, optimizer
from omni_jax.checkpoint.initialise import Start
from omni_jax.train.loop import Run
from omni_jax.train.vocoder_losses import WaveformLoss

LOSS = WaveformLoss(
  spectra=(analysis(240), analysis(400), analysis(800, 1024)), floor=1e-6, bins=0.3, spread=1.5, prosody=PROSODY
)


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=900)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it only hums."""
  return _run(workdir, steps=10)


def _run(workdir: Path, *, steps: int) -> Run:
  return Run(
    name="vocoder",
    model=MODEL,
    loss=LOSS,
    optimizer=optimizer(1.5e-3, steps=steps, warmup_steps=50),
    data=dataclasses.replace(clips(workdir), seed=1),
    steps=steps,
    start=(Start(workdir / "stages" / "vocoder_filters"),),
    save_every=400,
  )  # fmt: skip
