"""The vocoder of the tiny journey: reduced units and a style -> 16 kHz speech in the assistant's two voices.

Source: EMOVA (arXiv 2409.18042) speaks through a VITS decoder conditioned on 24 styles; here a source-filter network
with an inverse-STFT head (`omni_jax/speech/vocoder.py`), which a laptop trains in minutes.
Command: omni train --config configs/emova/vocoder.py:tiny --workdir runs/tiny
Hardware and hours: 2 CPU cores, about 4 minutes.
"""

from pathlib import Path

from omni_jax.batches.vocoder_clips import VocoderClips
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.vocoder import VocoderConfig
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.vocoder_losses import VocoderLoss

VOICES = ("flite:slt", "flite:awb")  # the assistant's own: female, male
SETS = ("speech", "dialogue", "spoken_images")

MODEL = VocoderConfig(
  levels=(8, 8, 8, 8), width=160, kernel=3, unit_blocks=((1, 1), (2, 1), (4, 0), (8, 0)),
  frame_dilations=(1, 2, 4, 1, 2, 4), harmonic_bands=48, noise_bands=24, places=10,
)  # fmt: skip


def _analysis(*, hop: int, window: int, fft: int, num_mels: int) -> MelConfig:
  return MelConfig(
    sample_rate=16000, hop_samples=hop, window_samples=window, fft_size=fft, num_mels=num_mels, low_hz=60.0,
    high_hz=8000.0, floor=0.0,
  )  # fmt: skip


# Windows of 15, 25 and 60 ms: bursts, what recognisers look through, harmonics.
LOSS = VocoderLoss(
  spectra=(
    _analysis(hop=80, window=240, fft=256, num_mels=24),
    _analysis(hop=160, window=400, fft=512, num_mels=40),
    _analysis(hop=320, window=960, fft=1024, num_mels=64),
  ),
  floor=1e-6, mel=1.0, pitch=1.0, duration=0.3,
)  # fmt: skip


def tiny(workdir: Path) -> Run:
  """The figures above."""
  return _run(workdir, steps=1500)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it only hums."""
  return _run(workdir, steps=20)


def clips(workdir: Path) -> VocoderClips:
  """Clips of 1.2 s."""
  return VocoderClips(
    corpus=tuple(workdir / "corpus" / name for name in SETS),
    units=tuple(workdir / "units" / name for name in SETS),
    split="train",
    voices=VOICES,
    rows=12,
    clip_frames=120,
    margin_frames=MODEL.frames_around,
    units_behind=24,
    units_ahead=6,
    seed=0,
  )


def _run(workdir: Path, *, steps: int) -> Run:
  return Run(
    name="vocoder",
    model=MODEL,
    loss=LOSS,
    optimizer=OptimizerConfig(
      learning_rate=2e-3, warmup_steps=min(50, steps), schedule="cosine", weight_decay=0.01, clip_norm=1.0,
      beta1=0.9, beta2=0.98,
    ),
    data=clips(workdir),
    steps=steps,
  )  # fmt: skip
