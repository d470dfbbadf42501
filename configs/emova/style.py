"""The style encoder of the tiny journey: waveform -> gender, emotion, pitch.

Source: our own; it hears what EMOVA's style embedding (arXiv 2409.18042, section 3.2) is told.
Command: omni train --config configs/emova/style.py:tiny --workdir runs/tiny
Hardware and hours: 2 CPU cores, about 70 CPU seconds.
Expect: gender and pitch always right and emotion in about 96 % of held-out sentences of seen voices; of the held-out
voice gender and pitch, while its wide range, which it cannot change, sounds happy whatever its rate.
"""

from pathlib import Path

from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.style_encoder import StyleEncoderConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.speech_losses import StyleLoss

# A window of 50 ms holds three periods of the lowest voice, and a transform of 64 ms its autocorrelation.
MEL = MelConfig(
  sample_rate=16000, hop_samples=320, window_samples=800, fft_size=1024, num_mels=40, low_hz=40.0, high_hz=7600.0,
  floor=1e-4,
)  # fmt: skip

MODEL = StyleEncoderConfig(mel=MEL, num_lags=64, lowest_f0_hz=60.0, highest_f0_hz=420.0, width=96, depth=3, taps=5)


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=1800)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it hears little."""
  return _run(workdir, steps=20)


def _run(workdir: Path, *, steps: int) -> Run:
  data = UtteranceBatches(
    sets=(workdir / "corpus" / "speech", workdir / "corpus" / "dialogue"),
    split="train",
    phones=workdir / "corpus" / "phones.json",
    num_phones=64,
    max_phones=64,
    buckets=(Bucket(seconds=2.1, rows=12), Bucket(seconds=3.1, rows=8), Bucket(seconds=6.0, rows=6)),
    seed=2,
  )
  return Run(
    name="style",
    model=MODEL,
    loss=StyleLoss(smoothing=0.05, rate=4.0),
    optimizer=OptimizerConfig(
      learning_rate=2e-3, warmup_steps=min(50, steps), schedule="cosine", weight_decay=0.01, clip_norm=1.0,
      beta1=0.9, beta2=0.99, eps=1e-8, groups=(),
    ),
    data=data,
    steps=steps,
  )  # fmt: skip
