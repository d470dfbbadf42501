"""The speech tokenizer of the tiny journey: waveform -> 25 units a second out of 4096, phones read through them.

Source: EMOVA's S2U, `40ms_multilingual_8888` (arXiv 2409.18042, appendix B.1), in a size for a CPU.
Command: omni train --config configs/emova/tokenizer.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, about 4 minutes, compiling for three lengths included.
Expect: a phone error rate of 6 % on held-out sentences of seen voices, about 31 % of the held-out voice, and 14
reduced units a second of a perplexity near 61 (`omni evaluate --workdir runs/tiny --tasks tokenizer`).
"""

from pathlib import Path

from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.tokenizer import SpeechTokenizerConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.speech_losses import TokenizerLoss

MEL = MelConfig(
  sample_rate=16000, hop_samples=160, window_samples=400, fft_size=512, num_mels=64, low_hz=40.0, high_hz=7600.0,
  floor=1e-4,
)  # fmt: skip

MODEL = SpeechTokenizerConfig(
  mel=MEL, levels=(8, 8, 8, 8), num_phones=64, stem_width=192, width=256, depth=4, taps=5, decoder_width=160,
  decoder_depth=2, sharpness=1.5, reading_sharpness=3.0,
)  # fmt: skip


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=1150)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; the units mean little."""
  return _run(workdir, steps=20)


def _run(workdir: Path, *, steps: int) -> Run:
  data = UtteranceBatches(
    sets=(workdir / "corpus" / "speech", workdir / "corpus" / "dialogue"),
    split="train",
    phones=workdir / "corpus" / "phones.json",
    num_phones=MODEL.num_phones,
    max_phones=64,
    buckets=(Bucket(seconds=2.1, rows=16), Bucket(seconds=3.1, rows=12), Bucket(seconds=6.0, rows=8)),
    seed=1,
  )
  return Run(
    name="tokenizer",
    model=MODEL,
    loss=TokenizerLoss(frames=1.0, warp=0.1),
    optimizer=OptimizerConfig(
      algorithm="muon", orthogonal_steps=3, learning_rate=2e-3,
      warmup_steps=min(100, steps), schedule="cosine", weight_decay=0.01, clip_norm=1.0,
      beta1=0.9, beta2=0.98, eps=1e-8, groups=(),
    ),
    data=data,
    steps=steps,
  )  # fmt: skip
