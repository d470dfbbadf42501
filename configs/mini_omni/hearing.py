"""Before Mini-Omni's base in a made-up world: an encoder of Whisper's shape learns to tell phones.

Source: none; Mini-Omni (arXiv 2408.16725) takes a released Whisper-small. Without it, a decoder that has to learn to
write and an encoder that has to learn to hear at once learn neither in a few minutes (docs/decisions.md).
Command: omni train --config configs/mini_omni/hearing.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, about 20 minutes.
Expect: 92 of 100 frames right.
"""

from pathlib import Path

from configs.mini_omni.recipe import HEARING
from configs.mini_omni.scales import TINY
from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.speech.phone_reader import PhoneReaderConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.phone_reading import PhoneReading


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=1800, rows=16)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return _run(workdir, steps=4, rows=4)


def _run(workdir: Path, *, steps: int, rows: int) -> Run:
  hearing = TINY.model.hearing
  return Run(
    name=HEARING,
    model=PhoneReaderConfig(hearing=hearing, num_phones=64),
    loss=PhoneReading(),
    optimizer=OptimizerConfig(
      algorithm="muon", orthogonal_steps=3, learning_rate=2e-3, warmup_steps=max(1, steps // 10), weight_decay=0.01,
      clip_norm=1.0, beta1=0.9, beta2=0.98,
    ),
    data=UtteranceBatches(
      sets=(workdir / "corpus" / "speech", workdir / "corpus" / "dialogue"),
      split="train",
      phones=workdir / "corpus" / "phones.json",
      num_phones=64,
      max_phones=64,
      buckets=(Bucket(seconds=hearing.layout.samples / 16000, rows=rows),),
      seed=7,
    ),
    steps=steps,
  )  # fmt: skip
