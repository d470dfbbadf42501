import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni_jax.core.errors import UserError
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EMOVA_3B
from omni_jax.nn.parameter import weight
from omni_jax.train.losses import LONGEST_CHUNK, CalmNextToken, _chunk_length, balanced_next_token, next_token


class Model(nnx.Module):
  """Embeds and unembeds; enough to have `hidden` and `logits`."""

  def __init__(self, *, key):
    first, second = jax.random.split(key)
    self.embed = weight(first, (11, 6), axes=("vocab", "embed"), fan_in=1)
    self.head = weight(second, (6, 11), axes=("embed", "vocab"), fan_in=6)

  def hidden(self, batch):
    return jnp.tanh(self.embed[...][batch["tokens"]])

  def logits(self, hidden):
    return hidden @ self.head[...]


def make_batch(length, *, share):
  generator = np.random.default_rng(0)
  kinds = generator.integers(1, 4, (3, length))
  learned = generator.random((3, length)) < share
  return {
    "tokens": jnp.asarray(generator.integers(0, 11, (3, length))),
    "targets": jnp.asarray(generator.integers(0, 11, (3, length))),
    "loss_mask": jnp.asarray(learned * np.where(kinds == 2, 0.5, 1.0), jnp.float32),
    "target_kind": jnp.asarray(kinds * learned, jnp.int8),
  }


def plain(model, batch):
  logits = model.logits(model.hidden(batch))
  losses = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, batch["targets"][..., None], -1)[..., 0]
  return (losses * batch["loss_mask"]).sum() / batch["loss_mask"].sum()


@pytest.mark.parametrize("length,share", [(16, 0.3), (24, 1.0), (7, 0.5), (40, 0.05)])
def test_skipping_and_chunking_change_neither_value_nor_gradient(length, share):
  model, batch = Model(key=jax.random.key(0)), make_batch(length, share=share)
  ours = jax.value_and_grad(lambda model: next_token(model, batch, jax.random.key(0))[0])(model)
  expected = jax.value_and_grad(lambda model: plain(model, batch))(model)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_metrics_by_kind_add_up_to_the_whole():
  model, batch = Model(key=jax.random.key(0)), make_batch(16, share=0.5)
  loss, metrics = next_token(model, batch, jax.random.key(0))
  parts = [metrics[f"loss_{kind}"] for kind in ("text", "unit", "style")]
  np.testing.assert_allclose(sum(s for s, _ in parts) / sum(n for _, n in parts), loss, rtol=1e-5)


def test_a_batch_without_targets_has_loss_zero_and_no_gradient():
  model, batch = Model(key=jax.random.key(0)), make_batch(8, share=0.0)
  loss, gradient = jax.value_and_grad(lambda model: next_token(model, batch, jax.random.key(0))[0])(model)
  assert float(loss) == 0.0
  assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(gradient))


def test_the_balance_of_experts_is_added_and_reported():
  class Balanced(Model):
    def hidden_and_balance(self, batch):
      return self.hidden(batch), (self.head[...] ** 2).sum()

  model, batch = Balanced(key=jax.random.key(0)), make_batch(8, share=0.5)
  plain_loss, _ = next_token(model, batch, jax.random.key(0))
  loss, metrics = balanced_next_token(model, batch, jax.random.key(0))
  balance = (model.head[...] ** 2).sum()
  np.testing.assert_allclose(loss, plain_loss + balance, rtol=1e-6)
  assert metrics["balance"] == (balance, 1.0)
  gradient = jax.grad(lambda model: balanced_next_token(model, batch, jax.random.key(0))[0])(model)
  without = jax.grad(lambda model: next_token(model, batch, jax.random.key(0))[0])(model)
  np.testing.assert_allclose(gradient.head[...], without.head[...] + 2 * model.head[...], rtol=1e-5)


def test_the_calm_loss_adds_the_square_of_the_log_divisor():
  class Balanced(Model):
    def hidden_and_balance(self, batch):
      return self.hidden(batch), jnp.zeros(())

  model, batch = Balanced(key=jax.random.key(0)), make_batch(24, share=0.5)

  def expected(model):
    squares = jax.nn.logsumexp(model.logits(model.hidden(batch)), -1) ** 2
    return plain(model, batch) + 0.1 * (squares * batch["loss_mask"]).sum() / batch["loss_mask"].sum()

  calm = CalmNextToken(z_weight=0.1)
  compute = jax.jit(jax.value_and_grad(lambda model: calm(model, batch, jax.random.key(0)), has_aux=True))
  (loss, metrics), gradient = compute(model)
  for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(jax.jit(jax.grad(expected))(model)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(loss, expected(model), rtol=1e-6)
  total, count = metrics["z_loss"]
  np.testing.assert_allclose(loss, plain(model, batch) + 0.1 * total / count, rtol=1e-6)
  with pytest.raises(UserError, match="z_weight 0"):
    CalmNextToken(z_weight=0.0)


class LanguageModel(nnx.Module):
  """A decoder as the loss sees an omni model."""

  def __init__(self, decoder):
    self.decoder = decoder

  def logits(self, hidden):
    return self.decoder.logits(hidden)

  def hidden(self, batch):
    tokens = batch["tokens"]
    return self.decoder.hidden(self.decoder.embed.embed(tokens), batch["positions"], batch["segment_ids"])


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_a_wide_vocabulary_never_exist_at_full_length(tied):
  """Reads the program of value and gradient at EMOVA's 155,776 rows and length 8192; nothing is computed."""
  released = EMOVA_3B.decoder
  config = DecoderConfig(
    vocab_size=released.vocab_size, extra_vocab_size=released.extra_vocab_size, width=64, depth=2, num_heads=2,
    num_kv_heads=1, head_dim=32, mlp_dim=64, rope_theta=1e6, norm_eps=1e-6, qkv_bias=True, tied=tied, remat=True,
  )  # fmt: skip
  vocab, rows, length = 155_776, 2, 8192
  model = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  whole = jax.ShapeDtypeStruct((rows, length), jnp.int32)
  names = ("tokens", "targets", "positions", "segment_ids", "loss_mask")
  batch = dict.fromkeys(names, whole)

  def loss(model, batch):
    return next_token(LanguageModel(model), batch, jax.random.key(0))[0]

  program = jax.make_jaxpr(jax.value_and_grad(loss))(model, batch)
  sizes = [shape for shape in shapes_in(program.jaxpr) if vocab in shape]
  logits = [shape for shape in sizes if shape not in {(vocab, 64), (64, vocab), (vocab,)}]
  assert logits, "the chunks themselves are there"
  assert max(int(np.prod(shape)) for shape in logits) <= rows * LONGEST_CHUNK * vocab
  with pytest.raises(AssertionError):  # the same reading finds them in the plain loss
    plain_program = jax.make_jaxpr(lambda model, batch: plain(LanguageModel(model), batch))(model, batch)
    assert all(np.prod(shape) <= rows * LONGEST_CHUNK * vocab for shape in shapes_in(plain_program.jaxpr))


def shapes_in(jaxpr):
  """Yields the shape of every value of a program and of the programs inside it."""
  for equation in jaxpr.eqns:
    yield from (tuple(value.aval.shape) for value in equation.outvars if hasattr(value.aval, "shape"))
    for parameter in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
      inner = getattr(parameter, "jaxpr", parameter)
      if hasattr(inner, "eqns"):
        yield from shapes_in(inner)


@pytest.mark.parametrize("length,expected", [(256, 32), (512, 64), (8192, 512), (7, 1), (1, 1)])
def test_chunks_divide_the_row(length, expected):
  assert _chunk_length(length) == expected
