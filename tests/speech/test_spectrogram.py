import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.spectrogram import (
  VITS_FLOOR,
  MelDistance,
  SpectraDistance,
  SpectrumConfig,
  magnitude,
  magnitude_numpy,
  spectrum,
)

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("centred", [True, False])
def test_the_spectrum_equals_that_of_torch(centred):
  config = SpectrumConfig(fft_size=32, hop_samples=8, window_samples=20, centred=centred)
  waveform = np.random.default_rng(0).standard_normal((2, 80)).astype(np.float32)
  given = torch.from_numpy(waveform)
  if not centred:
    given = torch.nn.functional.pad(given[:, None], (12, 12), "reflect")[:, 0]
  window = torch.hann_window(20)
  expected = torch.stft(given, 32, 8, 20, window, center=centred, pad_mode="reflect", return_complex=True)
  made = spectrum(jnp.asarray(waveform), config)
  assert made.shape == (2, 11 if centred else 10, 17)
  np.testing.assert_allclose(made, expected.numpy().transpose(0, 2, 1), atol=1e-5)


def test_equal_clips_are_no_distance_apart_and_silence_has_a_gradient():
  config = SpectrumConfig(fft_size=32, hop_samples=8, window_samples=32)
  mel = MelDistance(sample_rate=1000, spectrum=config, num_mels=6)
  spectra = SpectraDistance(spectra=(config,))
  waveform = jnp.asarray(np.random.default_rng(0).standard_normal((1, 64)), jnp.float32)
  for distance in (mel, spectra):
    assert float(distance(waveform, waveform)) == 0
    assert float(distance(0.5 * waveform, waveform)) > 0.1
    assert np.isfinite(jax.grad(lambda x, distance=distance: distance(x, waveform))(jnp.zeros_like(waveform))).all()


def test_spectral_convergence_is_relative():
  config = SpectrumConfig(fft_size=32, hop_samples=8, window_samples=32)
  waveform = jnp.asarray(np.random.default_rng(0).standard_normal((1, 64)), jnp.float32)
  # Half the amplitude: the difference is half the norm, and every log magnitude is log 2 lower.
  found = SpectraDistance(spectra=(config,), floor=0.0)(0.5 * waveform, waveform)
  assert float(found) == pytest.approx(0.5 + np.log(2), abs=1e-4)
  assert magnitude(waveform, config, floor=4.0).min() >= 2.0


def test_clips_shorter_than_the_reflection_are_refused():
  with pytest.raises(AssertionError, match="cannot be reflected"):
    spectrum(jnp.zeros((1, 8)), SpectrumConfig(fft_size=32, hop_samples=8, window_samples=32))


LINEAR = SpectrumConfig(fft_size=64, hop_samples=16, window_samples=64)


@pytest.mark.parametrize("samples", [160, 170, 25])
def test_magnitudes_of_a_recording_in_numpy_jax_and_torch_agree(samples):
  waveform = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
  padded = torch.nn.functional.pad(torch.from_numpy(waveform)[None, None], (24, 24), mode="reflect")[0]
  window = torch.hann_window(64)
  values = torch.stft(padded, 64, 16, 64, window, center=False, return_complex=True)
  expected = torch.sqrt(values.abs() ** 2 + VITS_FLOOR)[0].T.numpy()
  found = magnitude_numpy(waveform, LINEAR, floor=VITS_FLOOR)
  assert found.shape == expected.shape == (samples // 16, 33) and found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(magnitude(jnp.asarray(waveform)[None], LINEAR, floor=VITS_FLOOR)[0], found, atol=1e-5)


@pytest.mark.parametrize(
  ("wrong", "message"),
  [(np.zeros(24), r"\(24,\)"), (np.zeros((2, 90)), r"\(2, 90\)"), (np.full(90, np.nan), "90 samples that are not")],
)
def test_recordings_that_cannot_be_analysed(wrong, message):
  with pytest.raises(UserError, match=message):
    magnitude_numpy(wrong, LINEAR, floor=VITS_FLOOR)


def test_silence_is_the_floor():
  np.testing.assert_allclose(magnitude_numpy(np.zeros(90), LINEAR, floor=VITS_FLOOR), 1e-3, rtol=1e-5)
