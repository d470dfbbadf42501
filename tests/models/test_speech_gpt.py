import jax

from omni_jax.core import trees
from omni_jax.models.speech_gpt import SPEECH_GPT_7B, SPEECH_GPT_13B


def count(config):
  return trees.count(jax.eval_shape(lambda: config.make(key=jax.random.key(0))))


def test_the_release_has_its_parameters():
  assert count(SPEECH_GPT_7B) == 6_746_656_768
  decoder = SPEECH_GPT_7B.decoder
  assert (decoder.vocab_size + decoder.extra_vocab_size, decoder.width) == (33_006, 4096)


def test_adapters_on_queries_and_values_have_the_size_of_the_notes():
  """4.19 M for 7B and 6.55 M for 13B: rank 8 on both sides of two square matrices in every layer."""
  for config, millions in ((SPEECH_GPT_7B, 4.19), (SPEECH_GPT_13B, 6.55)):
    assert round(2 * 2 * 8 * config.decoder.width * config.decoder.depth / 1e6, 2) == millions
