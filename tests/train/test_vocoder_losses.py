"""Losses of the vocoder: zero for a perfect imitation, unbiased durations, and a model that learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omni_jax.speech.expected import Expected
from omni_jax.speech.mel import MelConfig, power_spectrum
from omni_jax.train.vocoder_losses import VocoderLoss, duration_loss
from tests.speech.vocoders import SMALL, random_units

LOSS = VocoderLoss(
  spectrum=MelConfig(
    sample_rate=16000, hop_samples=160, window_samples=400, fft_size=512, num_mels=20, low_hz=60.0, high_hz=8000.0,
    floor=0.0,
  ),
  floor=1e-6, bins=0.3, voicing=0.3, pitch=1.0, duration=0.3,
)  # fmt: skip


def _batch() -> dict[str, jax.Array]:
  time = np.arange(20 * 160) / 16000
  waveform = np.stack([0.3 * np.sign(np.sin(2 * np.pi * hz * time)) for hz in (125.0, 200.0)])
  return {
    "units": jnp.asarray(np.stack([random_units(8, seed) for seed in (1, 2)])),
    "counts": jnp.full((2, 8), 4),
    "whole": jnp.ones((2, 8)),
    "style": jnp.array([[0, 1, 2], [1, 2, 0]]),
    "first": jnp.array([2, 2]),
    "f0_hz": jnp.broadcast_to(jnp.array([[125.0], [200.0]]), (2, 28)),
    "voiced": jnp.ones((2, 28)),
    "waveform": jnp.asarray(waveform, jnp.float32),
  }


def test_equal_power_has_no_distance():
  power, ones = power_spectrum(_batch()["waveform"], LOSS.spectrum), jnp.ones((2, 20))
  bins, mels, _ = LOSS._distances(Expected(power, 0.0 * power), power, voiced=ones, heard=ones)
  assert float(bins) == 0 and float(mels) == 0
  # Half the amplitude is log 2 in every bin and band that is not silent.
  bins, mels, _ = LOSS._distances(Expected(0.25 * power, 0.0 * power), power, voiced=ones, heard=ones)
  assert float(mels) == pytest.approx(np.log(2), abs=0.02) and float(bins) == pytest.approx(np.log(2), abs=0.05)


def test_pulses_count_where_the_recording_is_unvoiced_and_noise_does_not_mask_them():
  power, ones = power_spectrum(_batch()["waveform"], LOSS.spectrum), jnp.ones((2, 20))

  def buzz(harmonic: float, noise: float, *, voiced: float) -> float:
    made = Expected(harmonic * power, noise * power)
    return float(LOSS._distances(made, power, voiced=voiced * ones, heard=ones)[2])

  assert buzz(1.0, 0.0, voiced=0.0) > buzz(0.5, 0.5, voiced=0.0) > 0
  assert buzz(0.1, 0.9, voiced=0.0) == 0 and buzz(1.0, 0.0, voiced=1.0) == 0


def test_frames_outside_the_utterance_do_not_count():
  power, ones = power_spectrum(_batch()["waveform"], LOSS.spectrum), jnp.ones((2, 20))
  heard = ones.at[:, 10:].set(0.0)
  made = power.at[:, 10:].set(0.0)
  bins, mels, _ = LOSS._distances(Expected(made, 0.0 * made), power, voiced=ones, heard=heard)
  assert float(bins) == 0 and float(mels) == 0


def test_the_duration_loss_is_least_at_the_mean():
  real = jnp.array([1.0, 1.0, 1.0, 5.0])
  counted = jnp.ones(4)
  losses = {mean: float(duration_loss(jnp.full(4, mean), real, counted)) for mean in (1.0, 1.5, 2.0, 2.5, 3.0)}
  assert min(losses, key=losses.__getitem__) == 2.0
  assert float(duration_loss(real, real, counted)) == pytest.approx(0, abs=1e-6)


def test_runs_that_are_cut_do_not_count():
  real, predicted = jnp.array([9.0, 2.0]), jnp.array([1.0, 2.0])
  assert float(duration_loss(predicted, real, jnp.array([0.0, 1.0]))) == pytest.approx(0, abs=1e-6)


def test_a_vocoder_learns():
  model, batch = SMALL.make(key=jax.random.key(0)), _batch()
  optimizer = optax.adam(1e-2)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(model, moments):
    (loss, metrics), gradient = jax.value_and_grad(lambda model: LOSS(model, batch, jax.random.key(0)), has_aux=True)(
      model
    )
    updates, moments = optimizer.update(gradient, moments, model)
    return optax.apply_updates(model, updates), moments, loss, metrics

  moments, losses = optimizer.init(model), []
  for _ in range(30):
    model, moments, loss, metrics = step(model, moments)
    losses.append(float(loss))
  assert losses[-1] < 0.6 * losses[0]
  octaves, count = metrics["octaves"]
  assert float(octaves / count) < 0.3
