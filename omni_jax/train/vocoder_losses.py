"""Losses of the vocoder: spectra at several resolutions, F0, durations; the model is called by its methods.

Spectral losses only (Yamamoto et al., arXiv 1910.11480, without the discriminator): the source-filter form already
gives pulses and noise their textures, so what is left to learn is smooth, and a CPU trains it in minutes.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar, Waveform
from omni_jax.speech.mel import MelConfig, filterbank, power_spectrum

Metrics = dict[str, tuple[Array, Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocoderLoss:
  """Weighted sum of the distances of a clip from its imitation.

  Attributes:
    spectra: analyses; each contributes the mean difference of log magnitudes, of its bins and of its mel bands.
    floor: added to power before the logarithm: quieter differences are not heard.
    mel: weight of the mel bands beside the bins.
    pitch: weight of the error of F0, in octaves, over voiced frames.
    duration: weight of the relative error of durations.
  """

  spectra: tuple[MelConfig, ...]
  floor: float
  mel: float
  pitch: float
  duration: float

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Metrics]:
    """Returns the loss and the sums and counts of its parts."""
    del key
    imitation = model.imitate(
      batch["units"], batch["counts"], styles=batch["style"], first=batch["first"], f0_hz=batch["f0_hz"]
    )
    num_samples = batch["waveform"].shape[1]
    margin = (imitation.waveform.shape[1] - num_samples) // 2
    bins, mels = self._distances(imitation.waveform[:, margin : margin + num_samples], batch["waveform"])
    octaves = jnp.abs(jnp.log2(imitation.f0_hz / batch["f0_hz"])) * batch["voiced"]
    counted = batch["whole"] * (batch["counts"] > 0)
    duration = duration_loss(imitation.durations, batch["counts"] / 4.0, counted)
    pitch = octaves.sum() / jnp.maximum(batch["voiced"].sum(), 1.0)
    loss = bins + self.mel * mels + self.pitch * pitch + self.duration * duration
    one = jnp.ones(())
    metrics = {
      "spectrum": (bins, one),
      "mel": (mels, one),
      "octaves": (octaves.sum(), batch["voiced"].sum()),
      "duration": (duration, one),
    }
    return loss, metrics

  def _distances(self, made: Waveform, real: Waveform) -> tuple[Scalar, Scalar]:
    bins, mels = jnp.zeros(()), jnp.zeros(())
    for config in self.spectra:
      powers = [power_spectrum(waveform, config) for waveform in (made, real)]
      bins += _distance(*powers, floor=self.floor)
      mels += _distance(*(power @ filterbank(config) * _mel_scale(config) for power in powers), floor=self.floor)
    return bins / len(self.spectra), mels / len(self.spectra)


def duration_loss(predicted: Array, real: Array, counted: Array) -> Scalar:
  """Returns real / predicted + log(predicted / real) - 1 on average: zero when right, least at the mean (not median).

  The negative log likelihood of an exponential distribution: relative, so that a short unit counts like a long one,
  and unbiased, so that the utterance as a whole has its length.
  """
  ratio = jnp.where(counted > 0, real / jnp.maximum(predicted, 1e-3), 1.0)
  return jnp.sum((ratio - jnp.log(ratio) - 1.0) * counted) / jnp.maximum(counted.sum(), 1.0)


def _distance(made: Array, real: Array, *, floor: float) -> Scalar:
  return 0.5 * jnp.mean(jnp.abs(jnp.log(made + floor) - jnp.log(real + floor)))


def _mel_scale(config: MelConfig) -> Array:
  # Slaney's filters have unit area over Hz; times the width of a bin a band is a mean over bins again.
  return jnp.float32(config.sample_rate / config.fft_size)
