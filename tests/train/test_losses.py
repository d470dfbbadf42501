import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni_jax.nn.parameter import weight
from omni_jax.train.losses import _chunk_length, next_token


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


@pytest.mark.parametrize("length,expected", [(256, 32), (512, 64), (8192, 512), (7, 1), (1, 1)])
def test_chunks_divide_the_row(length, expected):
  assert _chunk_length(length) == expected
