import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.nn.positional_convolution import PositionalConvolution, at_once, by_group


@pytest.mark.parametrize("taps", [7, 8])
def test_both_forms_equal_torch(taps):
  torch = pytest.importorskip("torch")
  generator = np.random.default_rng(taps)
  x = generator.normal(size=(2, 20, 12)).astype(np.float32)
  layer = PositionalConvolution(12, taps=taps, groups=3, key=jax.random.key(0))
  kernel = np.asarray(layer.weight[...])  # [taps, inputs, group, outputs]
  weight = torch.from_numpy(kernel.transpose(2, 3, 1, 0).reshape(12, 4, taps).copy())
  y = torch.nn.functional.conv1d(torch.from_numpy(x).mT, weight, padding=taps // 2, groups=3)
  expected = y.mT.numpy()[:, :20]  # an even number of taps gives one frame more, which the originals drop
  np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)
  for form in (at_once, by_group):
    np.testing.assert_allclose(form(jnp.asarray(x), jnp.asarray(kernel)), expected, atol=1e-5)


def test_groups_that_do_not_share_the_width_are_told():
  with pytest.raises(UserError, match="width 10 in 3 groups"):
    PositionalConvolution(10, taps=3, groups=3, key=jax.random.key(0))
