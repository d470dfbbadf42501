import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.language import LanguageConfig, LanguageModel
from tests.models.twins import decoder_config


@pytest.fixture(scope="module")
def model():
  return LanguageConfig(decoder=decoder_config(), image_token=3).make(key=jax.random.key(0))


def batch_of(tokens):
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  return {"tokens": tokens, "positions": positions, "segment_ids": jnp.ones_like(tokens)}


def test_it_says_what_its_decoder_says(model):
  batch = batch_of(jnp.asarray([[1, 25, 3, 7]]))
  expected = model.decoder(batch["tokens"], batch["positions"], batch["segment_ids"])
  np.testing.assert_array_equal(model(batch), expected)
  assert all(path.startswith("decoder.") for path in trees.flatten(model))


def test_decoding_with_a_cache_gives_the_same(model):
  tokens = jnp.asarray([[1, 25, 3, 7, 2]])
  whole = jax.jit(LanguageModel.__call__)(model, batch_of(tokens))
  logits, cache = jax.jit(LanguageModel.prefill)(model, batch_of(tokens[:, :3]), model.empty_cache(1, 5))
  np.testing.assert_allclose(logits[:, 0], whole[:, 2], atol=1e-5)
  for place in (3, 4):
    logits, cache = jax.jit(LanguageModel.step)(model, tokens[:, place : place + 1], jnp.asarray([[place]]), cache)
    np.testing.assert_allclose(logits[:, 0], whole[:, place], atol=1e-5)


@pytest.mark.parametrize("name", ["patches", "tiles"])
def test_images_are_refused(model, name):
  batch = batch_of(jnp.asarray([[1, 2]]))
  assert model.embed(batch | {name: jnp.zeros((1, 1, 0, 4))}).shape == (1, 2, 16)
  with pytest.raises(UserError, match="no image tower"):
    model.embed(batch | {name: jnp.zeros((1, 1, 4, 4))})
