import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.nn.norm import LayerNorm, RMSNorm


def test_norms_equal_torch():
  torch = pytest.importorskip("torch")
  x = jax.random.normal(jax.random.key(0), (2, 3, 8)) * 3 + 1
  theirs = torch.from_numpy(np.array(x))
  layer_norm = torch.nn.functional.layer_norm(theirs, (8,), eps=1e-6)
  np.testing.assert_allclose(LayerNorm(width=8, eps=1e-6)(x), layer_norm, atol=1e-5)
  rms_norm = torch.nn.functional.rms_norm(theirs, (8,), eps=1e-6)
  np.testing.assert_allclose(RMSNorm(width=8, eps=1e-6)(x), rms_norm, atol=1e-5)


def test_half_precision_is_rounded_once():
  x = (jax.random.normal(jax.random.key(0), (2, 3, 64)) * 3 + 100).astype(jnp.bfloat16)
  found = LayerNorm(width=64, eps=1e-6)(x)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, LayerNorm(width=64, eps=1e-6)(x.astype(jnp.float32)).astype(jnp.bfloat16))
