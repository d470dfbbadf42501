"""SNAC, the codec that Mini-Omni speaks with: waveform -> codes of three rates -> waveform.

Source: SNAC (arXiv 2410.14411) publishes its model and not its training; losses, weights and the optimizer are those
of the codec it builds on (DAC, arXiv 2306.06546), whose critics are by periods and by spectra. Deviation: a cosine
instead of an exponential. Records hold sound of any rate: for `full`, write the corpus at 24 kHz or above.
Command: omni train --config configs/mini_omni/snac.py:tiny --workdir runs/tiny
Hardware and hours: tiny one CPU core, not timed to the end; full: GPUs, 400,000 steps, not tried.
Expect: no figures yet: `smoke` was run, `tiny` was not trained to its end.
"""

from pathlib import Path

from configs.voices import published_optimizer, small_critics, small_optimizer
from omni_jax.batches.unit_clips import SoundClips
from omni_jax.speech.discriminators import CriticConfig, PeriodsConfig, SpectraConfig
from omni_jax.speech.snac import SNAC_24KHZ, SNACConfig
from omni_jax.speech.spectrogram import MelDistance, SpectraDistance, SpectrumConfig
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.adversarial_losses import AdversarialLosses
from omni_jax.train.imitations import CopySpeech
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig

TINY = SNACConfig(
  sample_rate=16000, encoder_width=12, encoder_rates=(2, 4, 5, 8), decoder_width=128, decoder_rates=(8, 5, 4, 2),
  codebook_size=256, code_width=8, strides=(4, 2, 1), depthwise=True, noise=True,
)  # fmt: skip


def tiny(workdir: Path) -> Run:
  """A small codec at 16 kHz on every voice of the tiny journey."""
  return _tiny(workdir, steps=4000)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it only hums."""
  return _tiny(workdir, steps=4)


def full(workdir: Path) -> Run:
  """The released size on `workdir/corpus/speech_24khz`."""
  optimizer = published_optimizer(1e-4)
  return Run(
    name="snac",
    model=SNAC_24KHZ,
    loss=_loss(
      SNAC_24KHZ.sample_rate,
      critic=CriticConfig(scales=None, periods=PeriodsConfig(), spectra=SpectraConfig(fft_sizes=(2048, 1024, 512))),
      optimizer=optimizer,
    ),
    optimizer=optimizer,
    data=SoundClips(
      corpus=(workdir / "corpus" / "speech_24khz",), split="train", rows=64, sample_rate=SNAC_24KHZ.sample_rate,
      clip_samples=6 * SNAC_24KHZ.hop,
    ),
    steps=400_000,
    log_every=100,
    save_every=5000,
  )  # fmt: skip


def _tiny(workdir: Path, *, steps: int) -> Run:
  optimizer = small_optimizer(steps=steps)
  return Run(
    name="snac",
    model=TINY,
    loss=_loss(
      TINY.sample_rate,
      critic=small_critics(spectra=SpectraConfig(fft_sizes=(512, 256), width=8)),
      optimizer=optimizer,
    ),
    optimizer=optimizer,
    data=SoundClips(
      corpus=(workdir / "corpus" / "speech", workdir / "corpus" / "dialogue"), split="train", rows=4,
      sample_rate=TINY.sample_rate, clip_samples=7 * TINY.hop,
    ),
    steps=steps,
    save_every=500,
  )  # fmt: skip


def _loss(sample_rate: int, *, critic: CriticConfig, optimizer: OptimizerConfig) -> Adversarial:
  """Returns DAC's losses: 15 times the mel distance, twice the features, the spectra at three resolutions beside."""
  mel = SpectrumConfig(fft_size=1024, hop_samples=256, window_samples=1024)
  spectra = tuple(
    SpectrumConfig(fft_size=size, hop_samples=size // 4, window_samples=size, centred=True) for size in (2048, 512, 128)
  )
  distances = (
    ("mel", 15.0, MelDistance(sample_rate=sample_rate, spectrum=mel)),
    ("spectra", 1.0, SpectraDistance(spectra=spectra)),
  )
  return Adversarial(
    imitate=CopySpeech(), losses=AdversarialLosses(distances=distances), critic=critic, optimizer=optimizer
  )
