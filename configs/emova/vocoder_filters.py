"""The vocoder's first stage: filters, F0 and durations from units and a style, learned without making sound.

Source: our own (`omni_jax/train/vocoder_losses.py`); `vocoder.py` finishes it.
Command: omni train --config configs/emova/vocoder_filters.py:tiny --workdir runs/tiny
Hardware and hours: one CPU core, about 6 minutes.
Expect: a distance of 0.37 between log mel magnitudes in training and 0.43 on held-out speech.
"""

from pathlib import Path

from omni_jax.batches.vocoder_clips import VocoderClips
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.vocoder import VocoderConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import Group, OptimizerConfig
from omni_jax.train.vocoder_losses import FilterLoss, ProsodyLoss

SETS = ("speech", "dialogue")  # spoken answers about images say little that these do not

MODEL = VocoderConfig(
  levels=(8, 8, 8, 8), width=192, frame_width=96, kernel=3,
  unit_blocks=((1, 1), (1, 1), (2, 1), (2, 1), (1, 0), (4, 0)), frame_dilations=(1, 2, 1), harmonic_bands=48,
  noise_bands=24, places=10,
)  # fmt: skip

PROSODY = ProsodyLoss(pitch=1.0, duration=0.3)


def analysis(window_samples: int, fft_size: int = 512) -> MelConfig:
  """Returns spectra every 10 ms, seen through a window of so many samples."""
  return MelConfig(
    sample_rate=16000, hop_samples=160, window_samples=window_samples, fft_size=fft_size, num_mels=40, low_hz=60.0,
    high_hz=8000.0, floor=0.0,
  )  # fmt: skip


# Filters fitted to recordings by this loss alone have a word error rate of 28 % with windows of 10, 15 and 25 ms
# together, 31 % with 15 ms and 37 % with 25 ms; the recordings 20 % (30 utterances held out).
LOSS = FilterLoss(
  spectra=(analysis(160), analysis(240), analysis(400)), floor=1e-6, bins=0.3, voicing=0.3, prosody=PROSODY
)
_GROUPS = (Group(pattern="filters", scale=3.0), Group(pattern="filter_bias", scale=10.0))


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=4000)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it only hums."""
  return _run(workdir, steps=20)


def clips(workdir: Path) -> VocoderClips:
  """Clips of 1.28 s of the answering voices: few in a batch, since steps are worth more than rows."""
  return VocoderClips(
    corpus=tuple(workdir / "corpus" / name for name in SETS),
    units=tuple(workdir / "units" / name for name in SETS),
    split="train",
    voices=cast().answering,
    rows=4,
    clip_frames=128,
    margin_frames=MODEL.frames_around,
    units_behind=MODEL.units_behind,
    units_ahead=MODEL.units_ahead,
    seed=0,
  )


def optimizer(learning_rate: float, *, steps: int, warmup_steps: int) -> OptimizerConfig:
  """Returns Muon with faster filters, for both stages."""
  return OptimizerConfig(
    learning_rate=learning_rate, warmup_steps=min(warmup_steps, steps), schedule="cosine", weight_decay=0.01,
    clip_norm=1.0, beta1=0.9, beta2=0.98, groups=_GROUPS, algorithm="muon", orthogonal_steps=3,
  )  # fmt: skip


def _run(workdir: Path, *, steps: int) -> Run:
  return Run(
    name="vocoder_filters",
    model=MODEL,
    loss=LOSS,
    optimizer=optimizer(4e-3, steps=steps, warmup_steps=100),
    data=clips(workdir),
    steps=steps,
    save_every=1000,
  )  # fmt: skip
