"""The smallest vocoder with critics and runs over them, importable by the processes that tests start."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import grain
import numpy as np

from omni_jax.speech.discriminators import CriticConfig, PeriodsConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.spectrogram import MelDistance, SpectrumConfig
from omni_jax.speech.unit_hifigan import DurationConfig, UnitHiFiGANConfig
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.adversarial_losses import AdversarialLosses
from omni_jax.train.imitations import SpeakUnits
from omni_jax.train.loop import Run, train
from omni_jax.train.optimizer import OptimizerConfig

FRAMES, HOP = 16, 4

VOCODER = UnitHiFiGANConfig(
  sample_rate=4000, codebook_size=8, embedding=8, speakers=0, duration=DurationConfig(width=8, taps=3, dropout=0.1),
  generator=HiFiGANConfig(
    inputs=8, width=16, rates=(4,), taps=(8,), residual="2", block_taps=(3,), block_dilations=((1,),)
  ),
)  # fmt: skip
SPECTRUM = SpectrumConfig(fft_size=16, hop_samples=4, window_samples=16)
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, beta1=0.8, beta2=0.99, weight_decay=0.01)
LOSS = Adversarial(
  imitate=SpeakUnits(),
  losses=AdversarialLosses(distances=(("mel", 45.0, MelDistance(sample_rate=4000, spectrum=SPECTRUM, num_mels=4)),)),
  critic=CriticConfig(scales=None, periods=PeriodsConfig(periods=(2,), widths=(8, 8)), spectra=None),
  optimizer=OPTIMIZER,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clips:
  """Tones whose units say their height; asked to, the process is terminated once, at a batch of its first life."""

  rows: int = 8
  stop_at: int = 0
  mark: Path = Path("none")  # exists from the second life on

  def open(self):
    return grain.MapDataset.range(64).repeat().map(self.clip).to_iter_dataset().batch(self.rows).map(self._count)

  def clip(self, index):
    draw = np.random.default_rng(index)
    units = np.repeat(draw.integers(0, 8, FRAMES // 4), 4).astype(np.int32)
    phase = np.cumsum(np.repeat(0.2 + 0.1 * units, HOP)) + draw.uniform(0, 6)
    counts = np.full(FRAMES // 4, 4, np.int32)
    counted = np.ones(FRAMES // 4, np.float32)
    waveform = (0.5 * np.sin(phase)).astype(np.float32)
    return {"units": units, "waveform": waveform, "reduced": units[::4], "counts": counts, "counted": counted}

  def _count(self, batch):
    served = int(os.environ.get("DUEL_SERVED", "0")) + 1
    os.environ["DUEL_SERVED"] = str(served)
    if self.stop_at == served and not self.mark.exists():
      self.mark.write_text("")
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.2)
    return batch


def make_duel(**changes):
  fields = {
    "name": "duel", "model": VOCODER, "loss": LOSS, "optimizer": OPTIMIZER, "data": Clips(), "steps": 6,
    "log_every": 1, "save_every": 100,
  }  # fmt: skip
  return Run(**{**fields, **changes})


def main(workdir, **changes):
  """Trains the duel."""
  train(make_duel(**changes), Path(workdir))
