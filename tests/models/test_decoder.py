import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.language import language_rules
from omni_jax.convert.table import import_leaves
from omni_jax.core import trees
from omni_jax.models import decoder as sizes
from tests.models.twins import decoder_config, language_twin, shaken

KEY = jax.random.key(0)
call = jax.jit(lambda model, *inputs: model(*inputs))


def tokens_of(batch, length, vocab=32):
  tokens = jax.random.randint(jax.random.key(7), (batch, length), 0, vocab)
  return tokens, jnp.tile(jnp.arange(length), (batch, 1)), jnp.ones((batch, length), int)


@pytest.mark.parametrize("tied", [True, False])
def test_block_logits_and_gradients_equal_transformers(tied):
  torch = pytest.importorskip("torch")
  model = shaken(decoder_config(tied=tied).make(key=KEY))
  twin = language_twin(model)
  tokens, positions, segments = tokens_of(2, 9)
  theirs = twin(torch.from_numpy(np.array(tokens)).long(), output_hidden_states=True, labels=None)

  x = model.embed.embed(tokens)
  first = jax.tree.map(lambda leaf: leaf[0], model.blocks)
  block = first(x, model._rotation(positions), sizes.causal_mask(segments))
  np.testing.assert_allclose(block, theirs.hidden_states[1].detach(), atol=1e-5)
  np.testing.assert_allclose(call(model, tokens, positions, segments), theirs.logits.detach(), atol=1e-4)

  def loss(model):
    return (jax.nn.logsumexp(model(tokens, positions, segments), axis=-1) ** 2).mean()

  (torch.logsumexp(theirs.logits, dim=-1) ** 2).mean().backward()
  gradients = {name: p.grad.numpy() for name, p in twin.named_parameters()}
  shapes = {path: leaf.shape for path, leaf in trees.flatten(model).items()}
  expected = import_leaves(language_rules(model.config), gradients, shapes=shapes)
  for path, gradient in trees.flatten(jax.jit(jax.grad(loss))(model)).items():
    np.testing.assert_allclose(gradient, expected[path], atol=2e-5, rtol=1e-4, err_msg=path)


def test_packed_rows_equal_separate_rows():
  model = shaken(decoder_config().make(key=KEY))
  tokens, positions, segments = tokens_of(1, 9)
  packed = call(model, tokens, jnp.array([[0, 1, 2, 3, 0, 1, 2, 0, 0]]), jnp.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]]))
  first = call(model, tokens[:, :4], positions[:, :4], segments[:, :4])
  second = call(model, tokens[:, 4:7], positions[:, :3], segments[:, :3])
  np.testing.assert_allclose(packed[:, :4], first, atol=1e-5)
  np.testing.assert_allclose(packed[:, 4:7], second, atol=1e-5)


def test_remat_changes_neither_values_nor_gradients():
  inputs = tokens_of(1, 6)
  models = [shaken(decoder_config(remat=remat).make(key=KEY)) for remat in (False, True)]
  values = [jax.jit(jax.value_and_grad(lambda model: (model(*inputs) ** 2).mean()))(model) for model in models]
  np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-6)
  for plain, again in zip(*map(jax.tree.leaves, [values[0][1], values[1][1]]), strict=True):
    np.testing.assert_allclose(plain, again, atol=1e-5)


def test_a_decoder_of_text_alone_has_no_extra_table():
  model = decoder_config(extra_vocab_size=0).make(key=KEY)
  assert "embed.extra" not in trees.paths(model)
  assert model(*tokens_of(1, 4, vocab=20)).shape == (1, 4, 20)


def test_neighbouring_codes_start_near():
  config = decoder_config(extra_vocab_size=70, unit_levels=(4, 4, 4), width=64)
  rows = np.asarray(config.make(key=KEY).embed.extra[...])
  distance = np.linalg.norm(rows[:64, None] - rows[None, :64], axis=-1)
  digits = np.stack([np.arange(64) // 4**place % 4 for place in range(3)], axis=-1)
  steps = np.abs(digits[:, None] - digits[None]).sum(-1)
  assert distance[steps == 1].mean() < 0.7 * distance[steps >= 4].mean()
  np.testing.assert_allclose(rows[:64].std(), 0.02, rtol=0.15)
  assert len(np.unique(rows.round(6), axis=0)) == 70


def test_codes_that_do_not_fit_are_refused():
  with pytest.raises(AssertionError, match="do not fit"):
    decoder_config(unit_levels=(8, 8))


# Parameters without the released padding of the table: Qwen2.5 model cards state them rounded.
@pytest.mark.parametrize(
  ("config", "millions"),
  [
    (sizes.QWEN2_5_0_5B, 494),
    (sizes.QWEN2_5_1_5B, 1_544),
    (sizes.QWEN2_5_3B, 3_086),
    (sizes.QWEN2_5_7B, 7_616),
    (sizes.QWEN2_5_14B, 14_770),
    (sizes.QWEN2_5_32B, 32_764),
    (sizes.QWEN2_5_72B, 72_706),
  ],
)
def test_published_sizes(config, millions):
  model = jax.eval_shape(lambda: config.make(key=KEY))
  assert round(trees.count(model) / 1e6) == millions
