import jax
import numpy as np
import pytest

from omni_jax.nn.resampling import bicubic, bilinear_corners, resample


@pytest.mark.parametrize(("rule", "options"), [(bicubic, ("bicubic", False)), (bilinear_corners, ("bilinear", True))])
@pytest.mark.parametrize("size", [(5, 7), (9, 3), (4, 1)])
def test_planes_equal_torch(rule, options, size):
  torch = pytest.importorskip("torch")
  plane = jax.random.normal(jax.random.key(0), (4, 6, 3))
  theirs = torch.from_numpy(np.array(plane).transpose(2, 0, 1))[None]
  expected = torch.nn.functional.interpolate(theirs, size=size, mode=options[0], align_corners=options[1])
  found = resample(plane, rows=size[0], columns=size[1], rule=rule)
  np.testing.assert_allclose(found, expected[0].permute(1, 2, 0), atol=1e-5)


def test_the_same_size_comes_back_untouched():
  plane = jax.random.normal(jax.random.key(0), (4, 6, 3))
  assert resample(plane, rows=4, columns=6, rule=bicubic) is plane
