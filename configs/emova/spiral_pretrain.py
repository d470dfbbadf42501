"""Pre-training of the speech-to-unit model's encoder (SPIRAL2): needs speech only, no text.

Source: the EMOVA speech tokenizer's `st2vec_lfr_pretrain_..._40ms_fp16_init80ms_multilingual_2.py`: WenetSpeech,
Libri-Light and LibriSpeech, two million steps of 24 crops of 15.6 s on each of 16 GPUs.
Deviations of `full`: from random weights, not from a model of 80 ms; float32; recordings of at most 15.6 s, not crops.
Command: omni train --config configs/emova/spiral_pretrain.py:tiny --workdir runs/tiny
Hardware and hours: tiny one CPU; full 16 GPUs or a TPU slice, weeks.
"""

import dataclasses
from pathlib import Path

from configs.emova import spiral
from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.speech.spiral_pretraining import SPIRAL2_PRETRAINING, SpiralPretrainingConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import Average, OptimizerConfig
from omni_jax.train.spiral_losses import ContrastiveLoss

TINY = SpiralPretrainingConfig(encoder=spiral.TINY.encoder, width=64)


def tiny(workdir: Path) -> Run:
  """The encoder of `spiral.py:tiny` on the corpus of the tiny journey."""
  return _tiny(workdir, steps=400)


def smoke(workdir: Path) -> Run:
  """The same code in seconds."""
  return _tiny(workdir, steps=10)


def full(workdir: Path) -> Run:
  """The released model's encoder; record sets of speech, whose phones may be empty."""
  data = UtteranceBatches(
    sets=tuple(workdir / "corpus" / name for name in ("wenetspeech", "libri_light", "librispeech")),
    split="train",
    phones=workdir / "corpus" / "phones.json",
    num_phones=240,
    max_phones=480,
    buckets=tuple(Bucket(seconds=seconds, rows=384) for seconds in (4.0, 8.0, 15.625)),
    seed=2,
  )
  optimizer = OptimizerConfig(
    learning_rate=3e-4, warmup_steps=32_000, weight_decay=0.01, beta1=0.9, beta2=0.98, eps=1e-6,
    averages=averages(0.99, 0.999),
  )  # fmt: skip
  return Run(
    name="spiral_pretrain", model=SPIRAL2_PRETRAINING, loss=ContrastiveLoss(), optimizer=optimizer, data=data,
    steps=2_000_000, save_every=10_000,
  )  # fmt: skip


def averages(momentum: float, final: float) -> tuple[Average, ...]:
  """Returns how the teacher follows the student."""
  parts = ("encoder", "projector")
  return tuple(Average(path=f"teacher_{part}", of=part, momentum=momentum, final=final) for part in parts)


def _tiny(workdir: Path, *, steps: int) -> Run:
  optimizer = OptimizerConfig(
    algorithm="muon", orthogonal_steps=3, learning_rate=1e-3, warmup_steps=min(50, steps), weight_decay=0.01,
    clip_norm=1.0, beta1=0.9, beta2=0.98, eps=1e-6, averages=averages(0.99, 0.999),
  )  # fmt: skip
  # Nothing held out, since a recording that is not judged would be learned; two lengths, since each compiles anew.
  buckets = (Bucket(seconds=3.1, rows=14), Bucket(seconds=6.0, rows=8))
  data = dataclasses.replace(spiral.tiny(workdir).data, held_out="", buckets=buckets)
  return Run(
    name="spiral_pretrain",
    model=TINY,
    loss=ContrastiveLoss(negatives=20, time_frames=12, most_shift=4),
    optimizer=optimizer,
    data=data,
    steps=steps,
  )
