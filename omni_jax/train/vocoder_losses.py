"""Losses of the vocoder: expected spectra, voicing, F0, durations; the model is called by its methods.

Nothing is synthesised: the power that the filters are expected to give (`speech.expected`) is compared with that of
the recording, in true time and at true F0. The source-filter form already gives pulses and noise their textures, so
what is left to learn is smooth, and a CPU trains it in minutes.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar
from omni_jax.speech.expected import Expected, expected_power
from omni_jax.speech.mel import MelConfig, filterbank, power_spectrum

Metrics = dict[str, tuple[Array, Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocoderLoss:
  """Weighted sum of the distances of a clip from its imitation.

  Attributes:
    spectrum: analysis; its hop and FFT are those of the synthesis.
    floor: added to power before the logarithm: quieter differences are not heard.
    bins: weight of the bins beside the mel bands: lines and the valleys between them, thus pulses against noise.
    voicing: weight of the pulses heard in unvoiced frames.
    pitch: weight of the error of F0, in octaves, over voiced frames.
    duration: weight of the relative error of durations.
  """

  spectrum: MelConfig
  floor: float
  bins: float
  voicing: float
  pitch: float
  duration: float

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Metrics]:
    """Returns the loss and the sums and counts of its parts."""
    del key
    f0_hz, voiced = batch["f0_hz"], batch["voiced"]
    imitation = model.imitate(
      batch["units"], batch["counts"], styles=batch["style"], first=batch["first"], num_frames=f0_hz.shape[1]
    )
    real = power_spectrum(batch["waveform"], self.spectrum)
    margin = (f0_hz.shape[1] - real.shape[1]) // 2
    inner = slice(margin, margin + real.shape[1])
    made = jax.tree.map(lambda x: x[:, inner], expected_power(imitation.features, f0_hz, self.spectrum))
    bins, mels, buzz = self._distances(made, real, voiced=voiced[:, inner], heard=imitation.valid[:, inner])
    octaves = jnp.abs(jnp.log2(imitation.features.f0_hz / f0_hz)) * voiced
    counted = batch["whole"] * (batch["counts"] > 0)
    duration = duration_loss(imitation.durations, batch["counts"] / 4.0, counted)
    pitch = octaves.sum() / jnp.maximum(voiced.sum(), 1.0)
    loss = mels + self.bins * bins + self.voicing * buzz + self.pitch * pitch + self.duration * duration
    one = jnp.ones(())
    metrics = {
      "spectrum": (bins, one),
      "mel": (mels, one),
      "buzz": (buzz, one),
      "octaves": (octaves.sum(), voiced.sum()),
      "duration": (duration, one),
    }
    return loss, metrics

  def _distances(self, made: Expected, real: Array, *, voiced: Array, heard: Array) -> tuple[Scalar, Scalar, Scalar]:
    """Returns the distances of bins and of mel bands over `heard` frames, and of the pulses from unvoiced silence."""
    bands = filterbank(self.spectrum) * (self.spectrum.sample_rate / self.spectrum.fft_size)
    count = jnp.maximum(heard.sum(), 1.0)

    def distance(made: Array, real: Array) -> Scalar:
      return 0.5 * (_apart(made, real, floor=self.floor).mean(-1) * heard).sum() / count

    harmonic, noise = made.harmonic @ bands, made.noise @ bands
    # Pulses are masked by noise of four times their power.
    buzz = jax.nn.relu(jnp.log(4.0 * harmonic + self.floor) - jnp.log(noise + self.floor)).mean(-1)
    buzz = 0.5 * (buzz * heard * (1.0 - voiced)).sum() / count
    return distance(made.power, real), distance(harmonic + noise, real @ bands), buzz


def duration_loss(predicted: Array, real: Array, counted: Array) -> Scalar:
  """Returns real / predicted + log(predicted / real) - 1 on average: zero when right, least at the mean (not median).

  The negative log likelihood of an exponential distribution: relative, so that a short unit counts like a long one,
  and unbiased, so that the utterance as a whole has its length.
  """
  ratio = jnp.where(counted > 0, real / jnp.maximum(predicted, 1e-3), 1.0)
  return jnp.sum((ratio - jnp.log(ratio) - 1.0) * counted) / jnp.maximum(counted.sum(), 1.0)


def _apart(made: Array, real: Array, *, floor: float) -> Array:
  return jnp.abs(jnp.log(made + floor) - jnp.log(real + floor))
