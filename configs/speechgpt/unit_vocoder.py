"""SpeechGPT's voice, a HiFi-GAN of units with a duration predictor: the released size, and one for a CPU.

Source: fairseq's `CodeHiFiGANVocoder` (arXiv 2104.00355), which SpeechGPT (arXiv 2305.11000) speaks with; losses and
critics are HiFi-GAN's (arXiv 2010.05646). `full` is trained on LJSpeech at 16 kHz with units of mHuBERT, 50 a second.
Deviations of `full`: a cosine instead of an exponential; one critic's spectral norm is weight norm
(`speech/discriminators.py`). `tiny` reads the units of `configs/emova/tokenizer.py`, 25 a second, two frames each,
and its 24 speakers are the styles.
Command: omni train --config configs/speechgpt/unit_vocoder.py:tiny --workdir runs/tiny, then the same with `tiny_more`.
Hardware and hours: one CPU core, 10 minutes of its time for `tiny`, 7 for `tiny_more`; full: GPUs, not tried.
`tiny_timed` says words far better: 10.3 points of word errors above recordings after 35 minutes of a core (goal 10):
  omni train --config configs/speechgpt/unit_vocoder.py:tiny_timed --workdir runs/tiny
  python tools/measure_vocoder.py --config configs/speechgpt/unit_vocoder.py:tiny_timed --workdir runs/tiny
Expect: see docs/decisions.md, "What the unit vocoder learns in a quarter of an hour".
"""

import dataclasses
from pathlib import Path

from configs.voices import published_optimizer, small_critics, small_optimizer
from omni_jax.batches.unit_clips import UnitClips
from omni_jax.checkpoint.initialise import Start
from omni_jax.core.styles import ALL_STYLES
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.speech.discriminators import HIFIGAN_SCALES, CriticConfig, PeriodsConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.spectrogram import MelDistance, SpectrumConfig
from omni_jax.speech.unit_hifigan import SPEECHGPT_VOCODER, DurationConfig, UnitHiFiGANConfig
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.adversarial_losses import AdversarialLosses
from omni_jax.train.imitations import SpeakUnits
from omni_jax.train.loop import Run

TINY = UnitHiFiGANConfig(
  sample_rate=16000, codebook_size=4096, embedding=64, speakers=len(ALL_STYLES), styled=True,
  duration=DurationConfig(width=64, taps=3, dropout=0.1),
  generator=HiFiGANConfig(
    inputs=128, width=256, rates=(2, 4, 5, 8), taps=(4, 8, 11, 16), residual="2", block_taps=(3, 7),
    block_dilations=((1, 3), (1, 3)),
  ),
)  # fmt: skip
# 100 frames a second, and blocks that reach as far as those of HiFi-GAN's V3: 41 frames on each side of one.
TIMED = dataclasses.replace(
  TINY,
  generator=dataclasses.replace(
    TINY.generator, rates=(2, 2, 5, 8), taps=(4, 4, 11, 16), block_dilations=((1, 2), (3, 12))
  ),
)


def losses(sample_rate: int, *, fft_size: int = 1024, hop_samples: int = 256) -> AdversarialLosses:
  """Returns HiFi-GAN's: doubts, twice the features, 45 times the mel distance up to the highest frequency."""
  spectrum = SpectrumConfig(fft_size=fft_size, hop_samples=hop_samples, window_samples=fft_size)
  return AdversarialLosses(distances=(("mel", 45.0, MelDistance(sample_rate=sample_rate, spectrum=spectrum)),))


def short_losses(sample_rate: int) -> AdversarialLosses:
  """Returns the same with a third of the weight on each of three windows: 64 ms as above, 25 ms and 15 ms."""
  distances = [("mel", 15.0, losses(sample_rate).distances[0][2])]
  for milliseconds in (25, 15):
    window = sample_rate * milliseconds // 1000
    spectrum = SpectrumConfig(fft_size=512, hop_samples=160, window_samples=window)
    distances.append(
      (f"mel_{milliseconds}_ms", 15.0, MelDistance(sample_rate=sample_rate, spectrum=spectrum, num_mels=40))
    )
  return AdversarialLosses(distances=tuple(distances))


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _tiny(workdir, steps=2400)


def tiny_more(workdir: Path) -> Run:
  """Goes on from `tiny` with new critics and by Muon, which gets as far in two thirds of AdamW's steps."""
  run = _tiny(workdir, steps=1400)
  faster = dataclasses.replace(run.optimizer, algorithm="muon", orthogonal_steps=3, learning_rate=2e-3)
  data = dataclasses.replace(run.data, seed=1)
  start = (Start(workdir / "stages" / run.name),)
  return dataclasses.replace(run, name="unit_vocoder_more", optimizer=faster, data=data, start=start)


def tiny_timed(workdir: Path) -> Run:
  """`tiny` where units begin and end as heard in encoding, to 10 ms; compared through short windows; Muon throughout.

  A run of a unit is a multiple of 40 ms: its sound begins up to 20 ms beside it, and what is likeliest is a blur.
  Windows of 64 ms hide just that, and see harmonics, of which units say nothing.
  """
  run = _tiny(workdir, steps=7000, compared=short_losses(TIMED.sample_rate))
  optimizer = dataclasses.replace(run.optimizer, algorithm="muon", orthogonal_steps=3, learning_rate=3e-3)
  data = dataclasses.replace(run.data, rows=2, hop_samples=TIMED.generator.hop, frames_per_unit=None, clip_frames=112)
  return dataclasses.replace(run, name="unit_vocoder_timed", model=TIMED, optimizer=optimizer, data=data)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it only hums."""
  return _tiny(workdir, steps=10)


def full(workdir: Path) -> Run:
  """The released size on one voice, `workdir/corpus/ljspeech`, with units of a k-means tokenizer of 1000 classes."""
  optimizer = published_optimizer(2e-4)
  return Run(
    name="unit_vocoder",
    model=SPEECHGPT_VOCODER,
    loss=Adversarial(
      imitate=SpeakUnits(),
      losses=losses(SPEECHGPT_VOCODER.sample_rate),
      critic=CriticConfig(scales=HIFIGAN_SCALES, periods=PeriodsConfig(), spectra=None),
      optimizer=optimizer,
    ),
    optimizer=optimizer,
    data=UnitClips(
      corpus=(workdir / "corpus" / "ljspeech",), units=(workdir / "units" / "ljspeech",), split="train",
      voices=("ljspeech:lj",), rows=16, sample_rate=SPEECHGPT_VOCODER.sample_rate, frames_per_unit=1,
      hop_samples=SPEECHGPT_VOCODER.generator.hop, clip_frames=28, units_around=2, peak=0.95,
    ),
    steps=500_000,
    log_every=100,
    save_every=5000,
  )  # fmt: skip


def _tiny(workdir: Path, *, steps: int, compared: AdversarialLosses | None = None) -> Run:
  optimizer = small_optimizer(steps=steps)
  sets = ("speech", "dialogue")
  return Run(
    name="unit_vocoder",
    model=TINY,
    loss=Adversarial(
      imitate=SpeakUnits(),
      losses=compared or losses(TINY.sample_rate),
      critic=small_critics(),
      optimizer=optimizer,
    ),
    optimizer=optimizer,
    data=UnitClips(
      corpus=tuple(workdir / "corpus" / name for name in sets),
      units=tuple(workdir / "units" / name for name in sets),
      split="train", voices=cast().answering, rows=4, sample_rate=TINY.sample_rate, hop_samples=TINY.generator.hop,
      frames_per_unit=2, clip_frames=28, units_around=2, speakers="styles",
    ),
    steps=steps,
    save_every=500,
  )  # fmt: skip
