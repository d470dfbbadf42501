import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.unpadded_convolution import UnpaddedConvolution


@pytest.mark.parametrize(("taps", "stride", "bias"), [(10, 5, False), (3, 2, True)])
def test_equals_torch(taps, stride, bias):
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(2, 23, 3)).astype(np.float32)
  layer = UnpaddedConvolution(3, 4, taps=taps, stride=stride, bias=bias, key=jax.random.key(0))
  weight = torch.from_numpy(np.array(layer.weight[...]).transpose(2, 1, 0).copy())
  expected = torch.nn.functional.conv1d(torch.from_numpy(x).mT, weight, stride=stride).mT.numpy()
  np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)
  assert layer.num_frames(23) == expected.shape[1] and (layer.bias is not None) == bias


def test_less_than_one_window_has_no_frame():
  layer = UnpaddedConvolution(1, 2, taps=5, stride=3, bias=False, key=jax.random.key(0))
  np.testing.assert_array_equal(layer.num_frames(np.array([0, 1, 4, 5, 7, 8])), [0, 0, 0, 1, 1, 2])
