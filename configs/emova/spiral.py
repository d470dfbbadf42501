"""EMOVA's own speech-to-unit model, fine-tuned by CTC: tiny and smoke from nothing, full from its pre-training.

Source: the EMOVA speech tokenizer's `..._finetune_FSQ_8888_CTC_4ConvDec_phone_40ms_20240522.py` (arXiv 2409.18042).
Deviations of `full`: a cosine after the warm-up instead of a plateau and a line; rows are grouped by length.
Deviations of `tiny`: Muon instead of AdamW, and phones are also read before the bottleneck (`probe`), since nothing is
pre-trained.
Command: omni train --config configs/emova/spiral.py:tiny --workdir runs/tiny
Data of `full`, with the 240 phones (corpus/phones.json):
  omni prepare --source aishell:DIR/data_aishell --set part=train --name aishell1 --phones emova --workdir runs/full
  omni prepare --source librispeech:DIR/train-clean-100 --name librispeech --phones emova --workdir runs/full
Hardware and hours: tiny one CPU core, about 8 minutes, two of them compiling for three lengths; full eight GPUs or a
TPU slice, 80,000 steps of 112 utterances.
Expect of `tiny`: a phone error rate of 4.4 % on held-out sentences of seen voices, 31 % of the held-out voice, and a
perplexity of the units near 900 (`omni compare --config configs/emova/compare.py:tiny`); `held_out_errors` in the log
stand at 8 %, since they are read with dropout.
"""

import dataclasses
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
  levels=(8, 8, 8, 8), num_phones=64, reader_width=128, reader_depth=2, probe=True,
)  # fmt: skip
# English of espeak-ng and the Mandarin phones of EMOVA's labels (`corpus.py:additions`).
BILINGUAL = dataclasses.replace(TINY, num_phones=240)
_BOTH = "mandarin/phones.json"


def tiny(workdir: Path) -> Run:
  """A small model from nothing on the corpus of the tiny journey, phones by espeak-ng."""
  return _tiny(workdir, steps=1500)


def pretrained_tiny(workdir: Path) -> Run:
  """The same from the encoder of `spiral_pretrain.py:tiny`."""
  run = _tiny(workdir, steps=1500, name="spiral_pretrained")
  return dataclasses.replace(run, start=(Start(workdir / "stages" / "spiral_pretrain", include="encoder"),))


def mandarin(workdir: Path) -> Run:
  """The same on Mandarin alone (`corpus.py:additions`), all recordings of which are about as long."""
  run = _tiny(workdir, steps=700, name="spiral_mandarin", model=BILINGUAL, sets=("mandarin",), phones=_BOTH)
  data = dataclasses.replace(run.data, buckets=(Bucket(seconds=4.2, rows=12),))
  return dataclasses.replace(run, data=data)


def bilingual(workdir: Path) -> Run:
  """The same on English and Mandarin."""
  sets = ("speech", "dialogue", "mandarin")
  return _tiny(workdir, steps=1500, name="spiral_bilingual", model=BILINGUAL, sets=sets, phones=_BOTH)


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


def _tiny(
  workdir: Path,
  *,
  steps: int,
  name: str = "spiral",
  model: SpeechToUnitConfig = TINY,
  sets: tuple[str, ...] = ("speech", "dialogue"),
  phones: str = "phones.json",
) -> Run:
  return Run(
    name=name,
    model=model,
    loss=PhoneLoss(probe=1.0),
    optimizer=OptimizerConfig(
      algorithm="muon", orthogonal_steps=3, learning_rate=2e-3, warmup_steps=min(100, steps), schedule="cosine",
      weight_decay=0.01, clip_norm=1.0, beta1=0.9, beta2=0.98, eps=1e-8,
    ),
    data=UtteranceBatches(
      sets=tuple(workdir / "corpus" / name for name in sets),
      split="train",
      phones=workdir / "corpus" / phones,
      num_phones=model.num_phones,
      max_phones=64,
      buckets=(Bucket(seconds=2.1, rows=16), Bucket(seconds=3.1, rows=12), Bucket(seconds=6.0, rows=8)),
      seed=1,
      held_out="test",
    ),
    steps=steps,
  )  # fmt: skip
