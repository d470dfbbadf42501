import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.convolution import Convolution, FrameNorm, ResidualConvolution, halve, zero_padding


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 6, 7])
def test_convolution_is_the_sum_it_says(stride, frames):
  module = Convolution(3, 4, taps=5, stride=stride, key=jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(2, frames, 3)).astype(np.float32)
  padded = np.pad(x, ((0, 0), (2, 2), (0, 0)))
  starts = range(0, frames, stride)
  windows = np.stack([padded[:, start : start + 5] for start in starts], 1)
  expected = np.einsum("btkc,kcd->btd", windows, module.weight[...])
  np.testing.assert_allclose(module(jnp.asarray(x)), expected, atol=1e-5)
  assert module(jnp.asarray(x)).shape[1] == (frames if stride == 1 else int(halve(jnp.array(frames))))


def test_residual_block_ignores_what_lies_past_the_end():
  block = ResidualConvolution(4, taps=3, key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (1, 6, 4))
  noisy = x.at[:, 4:].set(100.0)
  lengths = jnp.array([4])
  np.testing.assert_allclose(block(x, lengths)[:, :4], block(noisy, lengths)[:, :4], atol=1e-6)
  np.testing.assert_allclose(block(x, lengths)[:, :4], block(x[:, :4], lengths), atol=1e-5)


def test_norm_of_a_frame():
  out = FrameNorm(8)(jax.random.normal(jax.random.key(0), (2, 3, 8)) * 5 + 3)
  np.testing.assert_allclose(out.mean(-1), 0.0, atol=1e-5)
  np.testing.assert_allclose(out.std(-1), 1.0, atol=1e-3)


def test_zero_padding():
  assert zero_padding(jnp.ones((2, 3, 1)), jnp.array([1, 3]))[..., 0].tolist() == [[1, 0, 0], [1, 1, 1]]
