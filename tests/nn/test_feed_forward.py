import jax
import numpy as np
import pytest

from omni_jax.nn.feed_forward import FeedForward, GatedFeedForward, gelu, quick_gelu


def test_activations_equal_the_reference():
  pytest.importorskip("torch")
  import torch
  from transformers.activations import ACT2FN

  x = np.linspace(-5, 5, 41, dtype=np.float32)
  np.testing.assert_allclose(quick_gelu(x), ACT2FN["quick_gelu"](torch.from_numpy(x)), atol=1e-6)
  np.testing.assert_allclose(gelu(x), torch.nn.functional.gelu(torch.from_numpy(x)), atol=1e-6)


def test_gated_network_is_its_formula():
  layer = GatedFeedForward(width=4, mlp_dim=6, key=jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (1, 2, 4))
  gate, up, down = (part.weight[...] for part in (layer.gate, layer.up, layer.down))
  np.testing.assert_allclose(layer(x), (jax.nn.silu(x @ gate) * (x @ up)) @ down, rtol=1e-6)


def test_outputs_may_be_wider_than_inputs():
  layer = FeedForward(width=4, mlp_dim=6, outputs=10, activation=gelu, key=jax.random.key(0))
  assert layer(jax.random.normal(jax.random.key(1), (1, 2, 4))).shape == (1, 2, 10)
