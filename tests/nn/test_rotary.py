import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.models.sizes import LLAMA_3_1_8B
from omni_jax.nn.rotary import Llama3Scaling, image_rotation, rotate, text_rotation


def test_products_depend_on_the_distance_alone():
  query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

  def product(i, j):
    turned = [rotate(x, text_rotation(jnp.array([[p]]), head_dim=8, theta=100.0)) for x, p in ((query, i), (key, j))]
    return float((turned[0] * turned[1]).sum())

  np.testing.assert_allclose(product(3, 1), product(12, 10), rtol=1e-5)
  assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_rotation_keeps_lengths_and_position_zero_is_the_identity():
  x = jax.random.normal(jax.random.key(0), (1, 2, 3, 8))
  rotation = text_rotation(jnp.array([[0, 5, 900]]), head_dim=8, theta=1e4)
  turned = rotate(x, rotation)
  np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
  np.testing.assert_array_equal(turned[:, :, 0], x[:, :, 0])


def test_image_angles_are_rows_then_columns():
  rotation = image_rotation(jnp.array([[[3, 0], [0, 3]]]), head_dim=8, theta=1e4)
  np.testing.assert_allclose(rotation.sine[0, 0], [np.sin(3), np.sin(0.03), 0, 0], atol=1e-6)
  np.testing.assert_allclose(rotation.sine[0, 1], [0, 0, np.sin(3), np.sin(0.03)], atol=1e-6)


def test_llama3_scaling_equals_transformers():
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

  rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
  rope["original_max_position_embeddings"] = 8192
  config = transformers.LlamaConfig(hidden_size=128, num_attention_heads=1, rope_parameters=rope)
  expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
  rotation = text_rotation(jnp.array([[1]]), head_dim=128, theta=5e5, scaling=LLAMA_3_1_8B.rope_scaling)
  np.testing.assert_allclose(jnp.arctan2(rotation.sine, rotation.cosine)[0, 0], expected, rtol=1e-5, atol=1e-9)


def test_scaling_without_a_middle_is_refused():
  with pytest.raises(AssertionError, match="no wavelengths"):
    Llama3Scaling(factor=8.0, low_frequency_factor=4.0, high_frequency_factor=4.0, original_positions=8192)


def test_half_precision_is_turned_in_float32():
  x = jax.random.normal(jax.random.key(0), (1, 1, 4, 8), jnp.bfloat16)
  rotation = text_rotation(jnp.array([[0, 1, 500, 30_000]]), head_dim=8, theta=1e4)
  turned = rotate(x, rotation)
  assert turned.dtype == jnp.bfloat16
  np.testing.assert_array_equal(turned, rotate(x.astype(jnp.float32), rotation).astype(jnp.bfloat16))
