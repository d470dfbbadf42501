import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from omni_jax.speech.spiral_features import EMOVA_MEL, FEWEST_SAMPLES, spiral_features, spiral_features_numpy
from tests.speech.spirals import TINY, recordings
from tests.speech.torch_spiral import Featurizer

LENGTHS = (FEWEST_SAMPLES, 16000, 16001, 5000, 24123)


def _rows(waveforms, *, length):
  rows = np.zeros((len(waveforms), length), np.float32)
  for row, waveform in zip(rows, waveforms, strict=True):
    row[: len(waveform)] = waveform
  return rows, np.array([len(waveform) for waveform in waveforms], np.int32)


@pytest.mark.parametrize("length", LENGTHS)
def test_features_equal_those_of_torch(length):
  (waveform,) = recordings(length)
  expected, frames = Featurizer(TINY)(torch.tensor(waveform)[None])
  rows, samples = _rows([waveform], length=length)
  for function in (spiral_features_numpy, jax.jit(spiral_features)):
    features = np.asarray(function(rows, samples))
    assert features.shape[1] % 4 == 0 and features.shape[1] >= int(frames)
    np.testing.assert_allclose(features[0, : int(frames)], expected[0, :, : int(frames)].T, atol=1e-4)
    assert not features[0, int(frames) :].any()


def test_hosts_and_devices_agree_and_padding_changes_nothing():
  waveforms = recordings(*LENGTHS)
  rows, samples = _rows(waveforms, length=32000)
  rows[0, LENGTHS[0] :] = 7.0  # what stands past the end is not read
  host, device = spiral_features_numpy(rows, samples), np.asarray(jax.jit(spiral_features)(rows, samples))
  assert host.dtype == device.dtype == np.float32
  np.testing.assert_allclose(host, device, atol=1e-4)
  for row, waveform in zip(host, waveforms, strict=True):
    alone = spiral_features_numpy(waveform[None], np.array([len(waveform)]))[0]
    np.testing.assert_allclose(row[: len(alone)], alone, atol=1e-4)
    assert not row[len(alone) :].any()


def test_silence_has_no_features_and_loudness_does_not_matter():
  silence = np.zeros((1, 8000), np.float32)
  for function in (spiral_features_numpy, jax.jit(spiral_features)):
    assert not np.asarray(function(silence, np.array([8000]))).any()
  (waveform,) = recordings(8000)
  loud, soft = (spiral_features_numpy(scale * waveform[None], np.array([8000])) for scale in (1.0, 0.25))
  np.testing.assert_allclose(loud, soft, atol=0.02)  # the peak is raised by 1e-5


def test_dither_is_small_noise_of_its_key():
  rows, samples = _rows(recordings(8000), length=8000)
  plain = np.asarray(spiral_features(jnp.asarray(rows), jnp.asarray(samples)))
  first, again, other = (
    np.asarray(spiral_features(jnp.asarray(rows), jnp.asarray(samples), key=jax.random.key(seed))) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0 and 0 < np.abs(first - plain).max() < 0.1


def test_each_mel_bin_has_a_filter():
  assert (np.asarray(Featurizer(TINY).fb[0]).sum(1) > 0).all() and EMOVA_MEL.num_mels == 128
