import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech.mel import MelConfig, filterbank, log_mel, log_mel_numpy, normalise

CONFIG = MelConfig(
  sample_rate=16000, hop_samples=160, window_samples=400, fft_size=512, num_mels=24, low_hz=40.0, high_hz=7600.0,
  floor=1e-4,
)  # fmt: skip


def _waveform(samples, seed=0):
  return np.random.default_rng(seed).normal(size=(1, samples)).astype(np.float32)


def test_numpy_and_jax_agree():
  waveform = _waveform(1700)
  np.testing.assert_allclose(log_mel(jnp.asarray(waveform), CONFIG), log_mel_numpy(waveform, CONFIG), atol=2e-4)


def test_filterbank_is_librosas():
  librosa = pytest.importorskip("librosa")
  expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=24, fmin=40.0, fmax=7600.0)
  np.testing.assert_allclose(filterbank(CONFIG).T, expected, atol=1e-7)


def test_a_frame_is_centred_on_its_hop():
  waveform = _waveform(1600)
  scaled = waveform[0] / np.abs(waveform).max()
  hann = np.hanning(401)[:400]
  frame = scaled[3 * 160 + 80 - 200 : 3 * 160 + 80 + 200] * hann
  expected = np.log(np.abs(np.fft.rfft(frame, 512)) ** 2 @ filterbank(CONFIG) + CONFIG.floor)
  np.testing.assert_allclose(log_mel_numpy(waveform, CONFIG)[0, 3], expected, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 1000])
def test_padding_changes_no_frame(samples):
  waveform = _waveform(samples)
  alone = log_mel_numpy(waveform, CONFIG)
  padded = log_mel_numpy(np.pad(waveform, ((0, 0), (0, 777))), CONFIG)
  assert alone.shape[1] == CONFIG.num_frames(samples)
  np.testing.assert_allclose(padded[:, : alone.shape[1]], alone, atol=1e-5)


def test_normalised_over_the_valid_frames():
  mel = jnp.asarray(np.random.default_rng(1).normal(3.0, 2.0, (2, 20, 5)).astype(np.float32))
  out = np.asarray(normalise(mel, jnp.array([12, 20])))
  np.testing.assert_allclose(out[0, :12].mean(0), 0.0, atol=1e-5)
  np.testing.assert_allclose(out[0, :12].std(0), 1.0, atol=1e-3)
  assert not out[0, 12:].any()


def test_silence_is_finite():
  mel = log_mel(jnp.zeros((1, 800)), CONFIG)
  assert np.isfinite(normalise(mel, jnp.array([5]))).all()
