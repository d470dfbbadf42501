"""Losses of the vocoder: zero for a perfect imitation, unbiased durations, and a model that learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omni_jax.speech.expected import Expected
from omni_jax.speech.frames import FrameFeatures, speak, voiced
from omni_jax.speech.mel import MelConfig, power_spectrum
from omni_jax.speech.vocoder import Imitation
from omni_jax.train.vocoder_losses import FilterLoss, ProsodyLoss, WaveformLoss, duration_loss
from tests.speech.vocoders import SMALL, random_units

PROSODY = ProsodyLoss(pitch=1.0, duration=0.3)


def analysis(window_samples: int) -> MelConfig:
  return MelConfig(
    sample_rate=16000, hop_samples=160, window_samples=window_samples, fft_size=512, num_mels=20, low_hz=60.0,
    high_hz=8000.0, floor=0.0,
  )  # fmt: skip


SPECTRA = (analysis(240), analysis(400))
LOSS = FilterLoss(spectra=SPECTRA, floor=1e-6, bins=0.3, voicing=0.3, prosody=PROSODY)
FINISH = WaveformLoss(spectra=SPECTRA, floor=1e-6, bins=0.3, spread=1.0, prosody=PROSODY)


def _batch() -> dict[str, jax.Array]:
  time = np.arange(20 * 160) / 16000
  waveform = np.stack([0.3 * np.sign(np.sin(2 * np.pi * hz * time)) for hz in (125.0, 200.0)])
  return {
    "units": jnp.asarray(np.stack([random_units(8, seed) for seed in (1, 2)])),
    "counts": jnp.full((2, 8), 4),
    "style": jnp.array([[0, 1, 2], [1, 2, 0]]),
    "first": jnp.array([2, 2]),
    "f0_hz": jnp.broadcast_to(jnp.array([[125.0], [200.0]]), (2, 28)),
    "voiced": jnp.ones((2, 28)),
    "waveform": jnp.asarray(waveform, jnp.float32),
  }


def test_equal_power_has_no_distance():
  power, ones = power_spectrum(_batch()["waveform"], SPECTRA[1]), jnp.ones((2, 20))
  bins, mels, _ = LOSS.distances(Expected(power, 0.0 * power), power, SPECTRA[1], voiced=ones, heard=ones)
  assert float(bins) == 0 and float(mels) == 0
  # Half the amplitude is log 2 in every bin and band that is not silent.
  bins, mels, _ = LOSS.distances(Expected(0.25 * power, 0.0 * power), power, SPECTRA[1], voiced=ones, heard=ones)
  assert float(mels) == pytest.approx(np.log(2), abs=0.02) and float(bins) == pytest.approx(np.log(2), abs=0.05)


def test_pulses_count_where_the_recording_is_unvoiced_and_noise_does_not_mask_them():
  power, ones = power_spectrum(_batch()["waveform"], SPECTRA[1]), jnp.ones((2, 20))

  def buzz(harmonic: float, noise: float, *, voiced: float) -> float:
    made = Expected(harmonic * power, noise * power)
    return float(LOSS.distances(made, power, SPECTRA[1], voiced=voiced * ones, heard=ones)[2])

  assert buzz(1.0, 0.0, voiced=0.0) > buzz(0.5, 0.5, voiced=0.0) > 0
  assert buzz(0.1, 0.9, voiced=0.0) == 0 and buzz(1.0, 0.0, voiced=1.0) == 0


def test_frames_outside_the_utterance_do_not_count():
  power, ones = power_spectrum(_batch()["waveform"], SPECTRA[1]), jnp.ones((2, 20))
  heard = ones.at[:, 10:].set(0.0)
  made = power.at[:, 10:].set(0.0)
  bins, mels, _ = LOSS.distances(Expected(made, 0.0 * made), power, SPECTRA[1], voiced=ones, heard=heard)
  assert float(bins) == 0 and float(mels) == 0


def test_the_duration_loss_is_least_at_the_mean():
  real = jnp.array([1.0, 1.0, 1.0, 5.0])
  counted = jnp.ones(4)
  losses = {mean: float(duration_loss(jnp.full(4, mean), real, counted)) for mean in (1.0, 1.5, 2.0, 2.5, 3.0)}
  assert min(losses, key=losses.__getitem__) == 2.0
  assert float(duration_loss(real, real, counted)) == pytest.approx(0, abs=1e-6)


def test_padding_has_no_duration():
  real, predicted = jnp.array([9.0, 2.0]), jnp.array([1.0, 2.0])
  assert float(duration_loss(predicted, real, jnp.array([0.0, 1.0]))) == pytest.approx(0, abs=1e-6)


class _Perfect:
  """Imitates by filters that are given."""

  def __init__(self, features, durations):
    self._imitation = Imitation(features, durations, jnp.ones(features.f0_hz.shape))

  def imitate(self, *_, **__):
    return self._imitation


def _batch_of(bands: jax.Array) -> tuple[dict[str, jax.Array], FrameFeatures]:
  """Returns a batch whose sound these filters made, and their features."""
  batch = _batch()
  features = FrameFeatures(batch["f0_hz"], bands, bands[..., :4] - 2.0)
  made = speak(voiced(features, jnp.zeros(2)), jnp.ones_like(batch["f0_hz"]), first=jnp.array([3, 4]))
  return batch | {"waveform": made[:, 4 * 160 : 24 * 160]}, features


def test_a_voice_that_moves_too_little_or_too_much_is_far_in_spread():
  move = jnp.sin(jnp.arange(28.0))[None, :, None]
  batch, features = _batch_of(-3.0 + jnp.broadcast_to(move, (2, 28, 8)))

  @jax.jit
  def spread(contrast):
    bands = -3.0 + contrast * (features.harmonic + 3.0)
    made = FrameFeatures(features.f0_hz, bands, bands[..., :4] - 2.0)
    return FINISH(_Perfect(made, batch["counts"] / 4.0), batch, jax.random.key(0))[1]["spread"][0]

  little, equal, much = (float(spread(contrast)) for contrast in (0.5, 1.0, 1.5))
  assert equal < 0.5 * little and equal < 0.5 * much


def test_the_waveform_loss_is_least_for_the_filters_that_made_the_sound():
  bands = jnp.broadcast_to(-3.0 + jnp.cos(jnp.arange(8.0)), (2, 28, 8))
  batch, features = _batch_of(bands)
  evaluate = jax.jit(lambda features: FINISH(_Perfect(features, batch["counts"] / 4.0), batch, jax.random.key(0))[0])
  losses = {shift: float(evaluate(features._replace(harmonic=bands + shift))) for shift in (-0.5, 0.0, 0.5)}
  assert min(losses, key=losses.__getitem__) == 0.0 and losses[0.0] < 0.5 * losses[0.5]


@pytest.mark.parametrize("criterion", [LOSS, FINISH], ids=["filters", "waveform"])
def test_a_vocoder_learns(criterion):
  model, batch = SMALL.make(key=jax.random.key(0)), _batch()
  optimizer = optax.adam(1e-2)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(model, moments):
    (loss, metrics), gradient = jax.value_and_grad(
      lambda model: criterion(model, batch, jax.random.key(0)), has_aux=True
    )(model)
    updates, moments = optimizer.update(gradient, moments, model)
    return optax.apply_updates(model, updates), moments, loss, metrics

  moments, losses = optimizer.init(model), []
  for _ in range(30):
    model, moments, loss, metrics = step(model, moments)
    losses.append(float(loss))
  assert losses[-1] < 0.6 * losses[0]
  apart, ratio = (float(total / count) for total, count in (metrics["duration_apart"], metrics["duration_ratio"]))
  assert 0 <= apart < 0.5 and ratio == pytest.approx(1, abs=0.5)
  if criterion is LOSS:  # both sound in the same way
    made, recorded = jax.jit(criterion.listen)(model, batch, jax.random.key(0))
    np.testing.assert_array_equal(recorded, batch["waveform"])
    assert made.shape == recorded.shape and float(jnp.abs(made).max()) > 1e-3
  octaves, count = metrics["octaves"]
  assert float(octaves / count) < 0.3
