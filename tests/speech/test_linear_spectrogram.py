import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.linear_spectrogram import LinearSpectrogramConfig, linear_spectrogram, linear_spectrogram_numpy

CONFIG = LinearSpectrogramConfig(fft_size=64, hop=16)


@pytest.mark.parametrize("samples", [160, 170, 25])
def test_numpy_jax_and_torch_agree(samples):
  torch = pytest.importorskip("torch")
  waveform = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
  padded = torch.nn.functional.pad(torch.from_numpy(waveform)[None, None], (24, 24), mode="reflect")[0]
  window = torch.hann_window(64)
  spectrum = torch.stft(padded, 64, 16, 64, window, center=False, return_complex=True)
  expected = torch.sqrt(spectrum.abs() ** 2 + 1e-6)[0].T.numpy()
  found = linear_spectrogram_numpy(waveform, CONFIG)
  assert found.shape == expected.shape == (samples // 16, CONFIG.bins) and found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(linear_spectrogram(jnp.asarray(waveform)[None], CONFIG)[0], found, atol=1e-5)


@pytest.mark.parametrize(
  ("wrong", "message"), [(np.zeros(24), r"\(24,\)"), (np.zeros((2, 90)), r"\(2, 90\)"), (np.full(90, np.nan), "False")]
)
def test_recordings_that_cannot_be_analysed(wrong, message):
  with pytest.raises(UserError, match=message):
    linear_spectrogram_numpy(wrong, CONFIG)


def test_silence_is_the_floor():
  np.testing.assert_allclose(linear_spectrogram_numpy(np.zeros(90), CONFIG), 1e-3, rtol=1e-5)
