"""EMOVA's own voice, a VITS whose text is units: all its losses and critics, at the released size and for a CPU.

Source: EMOVA's unit-to-speech (arXiv 2409.18042) is a VITS (arXiv 2106.06103) conditioned by what a style encoder hears
in the recording; the released config trains at 22,050 Hz on segments of 32 frames. Its training script is not public:
losses, weights and critics are VITS'. Deviation of `full`: a cosine instead of an exponential. Conditions of the styles
come afterwards, as centroids over the corpus (`speech/conditions.py`).
Command: omni train --config configs/emova/unit_voice.py:tiny --workdir runs/tiny
Hardware and hours: tiny one CPU core, not timed to the end; full: GPUs, 322,000 steps, not tried.
Expect: no figures yet: `smoke` was begun, `tiny` was not trained to its end.
"""

import dataclasses
from pathlib import Path

from configs.speechgpt.unit_vocoder import losses
from configs.voices import published_optimizer, small_critics, small_optimizer
from omni_jax.batches.unit_utterances import UnitUtterances
from omni_jax.batches.utterances import Bucket
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.speech.discriminators import VITS_SCALE, CriticConfig, PeriodsConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.spectrogram import SpectrumConfig
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH, uvits
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.imitations import SpeakUtterances
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig

_WIDE = uvits(
  width=96, mlp_dim=256, vocab_size=4096, first_unit=0, condition=64,
  decoder=HiFiGANConfig(
    inputs=64, width=128, rates=(8, 8, 4), taps=(16, 16, 8), residual="2", block_taps=(3, 7),
    block_dilations=((1, 3), (1, 3)), condition=64, normed_ends=False, last_bias=False,
  ),
)  # fmt: skip
TINY = dataclasses.replace(
  _WIDE,
  sample_rate=16000,
  posterior=dataclasses.replace(
    _WIDE.posterior, convolutions=dataclasses.replace(_WIDE.posterior.convolutions, depth=4)
  ),
  encoder=dataclasses.replace(_WIDE.encoder, depth=3),
)


def tiny(workdir: Path) -> Run:
  """A small model on the answering voices of the tiny journey."""
  return _tiny(workdir, steps=4000)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it only hums."""
  return _tiny(workdir, steps=4)


def full(workdir: Path) -> Run:
  """The released size, on the sets `aishell3` and `libritts` of `workdir/corpus`."""
  model, sets = EMOVA_UNIT_TO_SPEECH, ("libritts", "aishell3")
  optimizer = published_optimizer(2e-4, eps=1e-9)
  return Run(
    name="unit_voice",
    model=model,
    loss=_loss(
      model.sample_rate,
      hop_samples=model.decoder.hop,
      critic=CriticConfig(scales=VITS_SCALE, periods=PeriodsConfig(), spectra=None),
      optimizer=optimizer,
    ),
    optimizer=optimizer,
    data=UnitUtterances(
      corpus=tuple(workdir / "corpus" / name for name in sets),
      units=tuple(workdir / "units" / name for name in sets),
      split="train", voices=(), sample_rate=model.sample_rate, hop_samples=model.decoder.hop, max_units=1000,
      least_frames=32, buckets=tuple(Bucket(seconds=seconds, rows=256) for seconds in (3.5, 5.8, 8.1, 11.6)),
    ),
    steps=322_000,
    log_every=100,
    save_every=2000,
  )  # fmt: skip


def _tiny(workdir: Path, *, steps: int) -> Run:
  optimizer = small_optimizer(steps=steps)
  sets = ("speech", "dialogue")
  return Run(
    name="unit_voice",
    model=TINY,
    loss=_loss(
      TINY.sample_rate,
      hop_samples=TINY.decoder.hop,
      critic=small_critics(),
      optimizer=optimizer,
    ),
    optimizer=optimizer,
    data=UnitUtterances(
      corpus=tuple(workdir / "corpus" / name for name in sets),
      units=tuple(workdir / "units" / name for name in sets),
      split="train", voices=cast().answering, sample_rate=TINY.sample_rate, hop_samples=TINY.decoder.hop,
      max_units=128, least_frames=32, buckets=(Bucket(seconds=2.1, rows=6), Bucket(seconds=3.1, rows=4),
      Bucket(seconds=6.0, rows=2)),
    ),
    steps=steps,
    save_every=500,
  )  # fmt: skip


def _loss(sample_rate: int, *, hop_samples: int, critic: CriticConfig, optimizer: OptimizerConfig) -> Adversarial:
  spectrum = SpectrumConfig(fft_size=1024, hop_samples=hop_samples, window_samples=1024)
  return Adversarial(
    imitate=SpeakUtterances(spectrum=spectrum, segment_frames=32),
    losses=losses(sample_rate),
    critic=critic,
    optimizer=optimizer,
  )
