import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.weight_norm import Kernel, NormedConvolution, NormedUpsampling

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
  "kernel",
  [
    Kernel(taps=7),
    Kernel(taps=3, dilation=4),
    Kernel(taps=6, stride=3, padding=2),
    Kernel(taps=5, stride=2, groups=2, padding=2),
    Kernel(taps=5, dilation=3, groups=4),
  ],
  ids=["centred", "dilated", "strided", "grouped", "depthwise"],
)
def test_a_convolution_equals_that_of_torch(kernel):
  ours = NormedConvolution(4, 4, kernel=kernel, key=jax.random.key(0))
  theirs = torch.nn.Conv1d(
    4, 4, kernel.taps, kernel.stride, padding=kernel.sides, dilation=kernel.dilation, groups=kernel.groups, bias=False
  )
  theirs.weight.data = torch.from_numpy(np.array(ours.weight().transpose(2, 1, 0)))
  x = np.random.default_rng(0).standard_normal((2, 17, 4)).astype(np.float32)
  expected = theirs(torch.from_numpy(x.transpose(0, 2, 1).copy())).detach().numpy().transpose(0, 2, 1)
  np.testing.assert_allclose(ours(jnp.asarray(x)), expected, atol=1e-5)


@pytest.mark.parametrize(
  ("taps", "stride", "padding", "extra"), [(4, 2, 1, 0), (11, 5, 3, 0), (6, 3, 2, 1)], ids=["even", "odd", "extra"]
)
def test_upsampling_equals_that_of_torch(taps, stride, padding, extra):
  kernel = Kernel(taps=taps, stride=stride, padding=padding)
  ours = NormedUpsampling(4, 3, kernel=kernel, extra=extra, key=jax.random.key(0))
  theirs = torch.nn.ConvTranspose1d(4, 3, taps, stride, padding=padding, output_padding=extra, bias=False)
  theirs.weight.data = torch.from_numpy(np.array(ours.weight().transpose(1, 2, 0)))
  x = np.random.default_rng(0).standard_normal((2, 7, 4)).astype(np.float32)
  expected = theirs(torch.from_numpy(x.transpose(0, 2, 1).copy())).detach().numpy().transpose(0, 2, 1)
  assert expected.shape == (2, 7 * stride, 3)
  np.testing.assert_allclose(ours(jnp.asarray(x)), expected, atol=1e-5)


def test_a_kernel_starts_as_its_direction_and_zeros_stay_finite():
  layer = NormedConvolution(4, 3, kernel=Kernel(taps=3), key=jax.random.key(0))
  np.testing.assert_allclose(layer.weight(), layer.weight.direction[...], atol=1e-6)
  zero = jax.tree.map(jnp.zeros_like, layer)
  gradient = jax.grad(lambda layer: layer(jnp.ones((1, 5, 4))).sum())(zero)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_taps_without_a_centre_need_a_padding():
  with pytest.raises(AssertionError, match="no centre"):
    Kernel(taps=4)
