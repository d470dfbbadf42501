"""Losses of the vocoder: spectra, voicing, F0, durations; the model is called by its methods.

Two of them, one after the other. `FilterLoss` makes no sound: the power that the filters are expected to give
(`speech.expected`) is compared with that of the recording, in true time and at true F0. That is cheap and smooth, but
what it likes best is still seven points of word error rate away from the recording, since it knows neither phases nor
how windows overlap. `WaveformLoss` therefore finishes: it synthesises and compares what is heard.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar, Sums, Waveform
from omni_jax.speech.expected import Expected, expected_power
from omni_jax.speech.frames import FRAMES_PER_UNIT, speak, voiced
from omni_jax.speech.istft import HOP
from omni_jax.speech.mel import MelConfig, filterbank, power_spectrum
from omni_jax.speech.source import NOISE_SAMPLES
from omni_jax.train.unit_health import durations_apart

_EPS = 1e-4  # under the root: a band that does not move has a gradient too


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProsodyLoss:
  """What both losses share: how far F0 and durations are from those of the recording.

  Attributes:
    pitch: weight of the error of F0, in octaves, over voiced frames.
    duration: weight of the relative error of durations.
  """

  pitch: float
  duration: float

  def __call__(self, imitation: Any, batch: dict[str, Array]) -> tuple[Scalar, Sums]:
    """Returns the loss and its parts."""
    voiced = batch["voiced"]
    octaves = jnp.abs(jnp.log2(imitation.features.f0_hz / batch["f0_hz"])) * voiced
    real, counted = batch["counts"] / FRAMES_PER_UNIT, batch["counts"] > 0
    duration = duration_loss(imitation.durations, real, counted)
    pitch = octaves.sum() / jnp.maximum(voiced.sum(), 1.0)
    metrics = {"octaves": (octaves.sum(), voiced.sum()), "duration": (duration, jnp.ones(()))}
    metrics |= durations_apart(imitation.durations, real, counted)
    return self.pitch * pitch + self.duration * duration, metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterLoss:
  """Distance of the expected power of a clip's filters from the recording, without synthesis.

  Attributes:
    spectra: analyses by windows of several lengths; their hop and FFT are those of the synthesis.
    floor: added to power before the logarithm: quieter differences are not heard.
    bins: weight of the bins beside the mel bands: lines and the valleys between them, thus pulses against noise.
    voicing: weight of the pulses heard in unvoiced frames.
    prosody: F0 and durations.
  """

  spectra: tuple[MelConfig, ...]
  floor: float
  bins: float
  voicing: float
  prosody: ProsodyLoss

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss and the sums and counts of its parts."""
    del key
    imitation = _imitation(model, batch)
    loss, metrics = self.prosody(imitation, batch)
    num_frames = batch["waveform"].shape[1] // HOP
    margin = (batch["f0_hz"].shape[1] - num_frames) // 2
    inner = slice(margin, margin + num_frames)
    parts = []
    for spectrum in self.spectra:
      real = power_spectrum(batch["waveform"], spectrum)
      made = jax.tree.map(lambda x: x[:, inner], expected_power(imitation.features, batch["f0_hz"], spectrum))
      parts.append(
        self.distances(made, real, spectrum, voiced=batch["voiced"][:, inner], heard=imitation.valid[:, inner])
      )
    bins, mels, buzz = (jnp.stack(values).mean() for values in zip(*parts, strict=True))
    one = jnp.ones(())
    metrics |= {"spectrum": (bins, one), "mel": (mels, one), "buzz": (buzz, one)}
    return loss + mels + self.bins * bins + self.voicing * buzz, metrics

  def listen(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Waveform, Waveform]:
    """Returns clips as the filters sound, and their recordings."""
    return _sound(_imitation(model, batch), batch, key), batch["waveform"]

  def distances(
    self, made: Expected, real: Array, spectrum: MelConfig, *, voiced: Array, heard: Array
  ) -> tuple[Scalar, Scalar, Scalar]:
    """Returns the distances of bins and of mel bands over `heard` frames, and of the pulses from unvoiced silence."""
    bands = _mel_bands(spectrum)
    count = jnp.maximum(heard.sum(), 1.0)

    def distance(made: Array, real: Array) -> Scalar:
      return 0.5 * (_apart(made, real, floor=self.floor).mean(-1) * heard).sum() / count

    harmonic, noise = made.harmonic @ bands, made.noise @ bands
    # Pulses are masked by noise of four times their power.
    buzz = jax.nn.relu(jnp.log(4.0 * harmonic + self.floor) - jnp.log(noise + self.floor)).mean(-1)
    buzz = 0.5 * (buzz * heard * (1.0 - voiced)).sum() / count
    return distance(made.power, real), distance(harmonic + noise, real @ bands), buzz


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformLoss:
  """Distance of the synthesised clip from the recording by spectra of several windows (arXiv 1910.11480, no GAN).

  Attributes:
    spectra: analyses; each contributes the mean difference of log magnitudes, of its bins and of its mel bands.
    floor: added to power before the logarithm.
    bins: weight of the bins beside the mel bands.
    spread: weight of the difference between how much each mel band moves in time. A network that is not sure says the
      mean, and speech of means is muffled: between two phones there is less and less difference.
    prosody: F0 and durations.
  """

  spectra: tuple[MelConfig, ...]
  floor: float
  bins: float
  spread: float
  prosody: ProsodyLoss

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss and the sums and counts of its parts."""
    imitation = _imitation(model, batch)
    loss, metrics = self.prosody(imitation, batch)
    made = _sound(imitation, batch, key)
    parts = []
    for spectrum in self.spectra:
      powers = [power_spectrum(waveform, spectrum) for waveform in (made, batch["waveform"])]
      bands = [power @ _mel_bands(spectrum) for power in powers]
      distances = [0.5 * _apart(*pair, floor=self.floor).mean() for pair in (powers, bands)]
      parts.append((*distances, self._spread_apart(*bands)))
    bins, mels, spread = (jnp.stack(values).mean() for values in zip(*parts, strict=True))
    one = jnp.ones(())
    metrics |= {"spectrum": (bins, one), "mel": (mels, one), "spread": (spread, one)}
    return loss + mels + self.bins * bins + self.spread * spread, metrics

  def listen(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Waveform, Waveform]:
    """Returns clips as they are made, and their recordings."""
    return _sound(_imitation(model, batch), batch, key), batch["waveform"]

  def _spread_apart(self, made: Array, real: Array) -> Scalar:
    """Returns how far apart the standard deviations of log magnitudes over time are, on average over bands."""
    made, real = (jnp.sqrt(jnp.var(0.5 * jnp.log(power + self.floor), axis=1) + _EPS) for power in (made, real))
    return jnp.abs(made - real).mean()


def duration_loss(predicted: Array, real: Array, counted: Array) -> Scalar:
  """Returns real / predicted + log(predicted / real) - 1 on average: zero when right, least at the mean (not median).

  The negative log likelihood of an exponential distribution: relative, so that a short unit counts like a long one,
  and unbiased, so that the utterance as a whole has its length.
  """
  ratio = jnp.where(counted > 0, real / jnp.maximum(predicted, 1e-3), 1.0)
  return jnp.sum((ratio - jnp.log(ratio) - 1.0) * counted) / jnp.maximum(counted.sum(), 1.0)


def _imitation(model: Any, batch: dict[str, Array]) -> Any:
  return model.imitate(
    batch["units"], batch["counts"], styles=batch["style"], first=batch["first"], num_frames=batch["f0_hz"].shape[1]
  )


def _sound(imitation: Any, batch: dict[str, Array], key: Key) -> Waveform:
  """Returns the clip in the voice of the filters at the recording's F0, with a new phase and new noise each time."""
  rows, num_samples = batch["waveform"].shape
  f0_hz = batch["f0_hz"]
  phase_key, noise_key = jax.random.split(key)
  frames = voiced(imitation.features._replace(f0_hz=f0_hz), jax.random.uniform(phase_key, (rows,)))
  first = jax.random.randint(noise_key, (rows,), 0, NOISE_SAMPLES // HOP)
  samples = speak(frames, jnp.ones_like(f0_hz), first=first)
  start = (f0_hz.shape[1] - num_samples // HOP) // 2 * HOP
  return samples[:, start : start + num_samples]


def _apart(made: Array, real: Array, *, floor: float) -> Array:
  return jnp.abs(jnp.log(made + floor) - jnp.log(real + floor))


def _mel_bands(spectrum: MelConfig) -> Array:
  # Slaney's filters have unit area over Hz; times the width of a bin a band is a mean over bins again.
  return jnp.asarray(filterbank(spectrum)) * (spectrum.sample_rate / spectrum.fft_size)
