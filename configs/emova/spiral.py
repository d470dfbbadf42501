"""EMOVA's own speech-to-unit model, fine-tuned by CTC: tiny and smoke from nothing, full from its pre-training.

Source: the EMOVA speech tokenizer's `..._finetune_FSQ_8888_CTC_4ConvDec_phone_40ms_20240522.py` (arXiv 2409.18042).
Deviations of `full`: a cosine after the warm-up instead of a plateau and a line; rows are grouped by length.
Command: omni train --config configs/emova/spiral.py:tiny --workdir runs/tiny
Data of `full`, with the 240 phones (corpus/phones.json):
  omni prepare --source aishell:DIR/data_aishell --set part=train --name aishell1 --phones emova --workdir runs/full
  omni prepare --source librispeech:DIR/train-clean-100 --name librispeech --phones emova --workdir runs/full
Hardware and hours: tiny one CPU; full eight GPUs or a TPU slice, 80,000 steps of 112 utterances.
"""

from pathlib import Path

from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.checkpoint.initialise import Start
from omni_jax.speech.speech_to_unit import EMOVA_SPEECH_TO_UNIT, SpeechToUnitConfig
from omni_jax.speech.spiral import ConvolutionConfig, SpiralConfig, StageConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.spiral_losses import PhoneLoss

TINY = SpeechToUnitConfig(
  encoder=SpiralConfig(
    num_mels=128,
    stages=(
      StageConfig(
        convolutions=(
          ConvolutionConfig(width=96, taps=5, stride=2),
          ConvolutionConfig(width=128, taps=5, stride=2),
          ConvolutionConfig(width=128, taps=1, relu=False),
        ),
        depth=1, num_heads=4, mlp_dim=384,
      ),
      StageConfig(
        convolutions=(ConvolutionConfig(width=256, taps=5), ConvolutionConfig(width=192, taps=1, relu=False)),
        depth=2, num_heads=6, mlp_dim=576,
      ),
    ),
    position_taps=32, position_groups=4, dropout=0.05,
  ),
  levels=(8, 8, 8, 8), num_phones=64, reader_width=128, reader_depth=2,
)  # fmt: skip


def tiny(workdir: Path) -> Run:
  """A small model on the corpus of the tiny journey, phones by espeak-ng."""
  return _tiny(workdir, steps=1500)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; the units mean nothing."""
  return _tiny(workdir, steps=10)


def full(workdir: Path) -> Run:
  """The released model's fine-tuning: AISHELL-1 and LibriSpeech 100 h with the 240 phones, from `spiral_pretrain`."""
  return Run(
    name="spiral",
    model=EMOVA_SPEECH_TO_UNIT,
    loss=PhoneLoss(),
    optimizer=OptimizerConfig(
      learning_rate=3e-5, warmup_steps=8000, schedule="cosine", weight_decay=0.01, beta1=0.9, beta2=0.98, eps=1e-6
    ),
    data=UtteranceBatches(
      sets=(workdir / "corpus" / "aishell1", workdir / "corpus" / "librispeech"),
      split="train",
      phones=workdir / "corpus" / "phones.json",
      num_phones=EMOVA_SPEECH_TO_UNIT.num_phones,
      max_phones=480,
      buckets=tuple(Bucket(seconds=seconds, rows=112) for seconds in (4.0, 8.0, 12.0, 16.0, 24.0)),
      seed=1,
    ),
    steps=80_000,
    start=(Start(workdir / "stages" / "spiral_pretrain", include="encoder"),),
    save_every=2000,
  )


def _tiny(workdir: Path, *, steps: int) -> Run:
  return Run(
    name="spiral",
    model=TINY,
    loss=PhoneLoss(),
    optimizer=OptimizerConfig(
      learning_rate=1e-3, warmup_steps=min(100, steps), schedule="cosine", weight_decay=0.01, clip_norm=1.0,
      beta1=0.9, beta2=0.98, eps=1e-6,
    ),
    data=UtteranceBatches(
      sets=(workdir / "corpus" / "speech", workdir / "corpus" / "dialogue"),
      split="train",
      phones=workdir / "corpus" / "phones.json",
      num_phones=TINY.num_phones,
      max_phones=64,
      buckets=(Bucket(seconds=2.1, rows=16), Bucket(seconds=3.1, rows=12), Bucket(seconds=6.0, rows=8)),
      seed=1,
    ),
    steps=steps,
  )  # fmt: skip
