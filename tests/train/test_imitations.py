"""What each vocoder's imitation compares, and what its health signals say."""

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.speech.spectrogram import VITS_FLOOR, SpectrumConfig, magnitude_numpy, magnitude_of_rows
from omni_jax.train.imitations import SpeakUtterances, codebook_use
from omni_jax.train.unit_health import durations_apart
from tests.speech.small_vits import BINS, UNITS, small_config, small_model

SPECTRUM = SpectrumConfig(fft_size=2 * (BINS - 1), hop_samples=8, window_samples=16)
FRAMES, SIZE, SEGMENT = 14, 6, 5


def utterances() -> dict[str, jax.Array]:
  rng = np.random.default_rng(0)
  waveform = rng.standard_normal((2, FRAMES * 8)).astype(np.float32)
  waveform[1, 9 * 8 :] = 0
  units = rng.integers(0, UNITS, (2, SIZE)).astype(np.int32)
  batch = {"waveform": waveform, "units": units, "num_units": np.array([6, 4]), "num_frames": np.array([14, 9])}
  return {name: jnp.asarray(value) for name, value in batch.items()}


def test_an_utterance_is_analysed_as_if_it_were_alone():
  batch = utterances()
  assert small_config().decoder.hop == SPECTRUM.hop_samples
  rows = magnitude_of_rows(batch["waveform"], batch["num_frames"] * 8, SPECTRUM, floor=VITS_FLOOR)
  for row, frames in enumerate((14, 9)):
    alone = magnitude_numpy(np.asarray(batch["waveform"])[row, : frames * 8], SPECTRUM, floor=VITS_FLOOR)
    assert len(alone) == frames
    np.testing.assert_allclose(rows[row, :frames], alone, atol=1e-5)


def test_segments_are_compared_with_where_they_come_from():
  """The five parts of VITS: here divergence and durations, and the segments that critics and mel distance compare."""
  model, batch = small_model(voice=True, normed_decoder=True), utterances()
  imitate = SpeakUtterances(spectrum=SPECTRUM, segment_frames=SEGMENT, divergence=2.0, duration=3.0)
  made = jax.jit(lambda key: imitate(model, batch, key))(jax.random.key(0))
  assert made.waveform.shape == made.target.shape == (2, SEGMENT * 8)
  for row, target in enumerate(np.asarray(made.target)):
    pieces = [np.asarray(batch["waveform"])[row, 8 * s : 8 * (s + SEGMENT)] for s in range(FRAMES - SEGMENT + 1)]
    start = next(s for s, piece in enumerate(pieces) if np.array_equal(piece, target))
    assert start + SEGMENT <= (14, 9)[row]
  parts = {name: float(total / count) for name, (total, count) in made.metrics.items()}
  np.testing.assert_allclose(made.loss, 2 * parts["divergence"] + 3 * parts["duration"], rtol=1e-5)
  assert parts["duration_ratio"] > 0 and np.isfinite(list(parts.values())).all()


def test_durations_that_agree_are_apart_by_nothing():
  real, counted = jnp.array([[3.0, 1.0, 9.0]]), jnp.array([[1.0, 1.0, 0.0]])
  same = durations_apart(real, real, counted)
  twice = durations_apart(2 * real, real, counted)
  values = [{name: float(total / count) for name, (total, count) in each.items()} for each in (same, twice)]
  assert values[0] == {"duration_apart": 0.0, "duration_ratio": 1.0}
  assert values[1] == {"duration_apart": 1.0, "duration_ratio": 2.0}


def test_use_and_perplexity_of_a_codebook():
  found = codebook_use(jnp.array([[0, 1], [2, 3]]), size=8, name="slow")
  assert float(found["slow_used"][0]) == 0.5
  np.testing.assert_allclose(found["slow_perplexity"][0], 4.0, rtol=1e-5)
  np.testing.assert_allclose(codebook_use(jnp.zeros(5, int), size=8, name="x")["x_perplexity"][0], 1.0, rtol=1e-5)
