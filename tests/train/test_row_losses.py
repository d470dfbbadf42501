import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni_jax.core.errors import UserError
from omni_jax.nn.parameter import weight
from omni_jax.tokens.mini_omni import TASKS, MiniOmniLayout
from omni_jax.train.row_losses import RowLoss

LAYOUT = MiniOmniLayout(num_pieces=6, text_size=12, num_codes=4, codebook_size=12, num_layers=3)
KEY = jax.random.key(0)


class Model(nnx.Module):
  """Two groups of heads on one vector a column."""

  def __init__(self, *, key):
    first, second, third = jax.random.split(key, 3)
    self.embed = weight(first, (12, 6), axes=("vocab", "embed"), fan_in=1)
    self.codes = weight(second, (6, 36), axes=("embed", "vocab"), fan_in=6)
    self.text = weight(third, (6, 12), axes=("embed", "vocab"), fan_in=6)

  @property
  def groups(self):
    return LAYOUT.audio_rows, (LAYOUT.text_row,)

  def hidden(self, batch):
    states = jnp.tanh(self.embed[...][batch["tokens"][..., -1]])
    return states, states

  def group_logits(self, hidden, group):
    logits = hidden @ (self.text if group else self.codes)[...]
    return logits.reshape(*hidden.shape[:2], -1, 12)


def make_batch(length, *, share=0.4, rows=(0, 1, 2, 3)):
  draw = np.random.default_rng(length)
  shape = (3, length, 4)
  learned = (draw.random(shape) < share) * np.isin(np.arange(4), rows)
  return {
    "tokens": jnp.asarray(draw.integers(0, 12, shape)),
    "targets": jnp.asarray(draw.integers(0, 12, shape)),
    "loss_mask": jnp.asarray(learned * draw.choice([0.5, 1.0, 2.0], shape), jnp.float32),
    "target_kind": jnp.asarray(learned * draw.integers(1, 7, shape), jnp.int8),
  }


def plain(model, batch, weights):
  total = 0.0
  hidden = model.hidden(batch)
  for row in range(4):
    logits = model.group_logits(hidden[0], 0)[:, :, row] if row < 3 else model.group_logits(hidden[1], 1)[:, :, 0]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., row, None], -1)[..., 0]
    mask = batch["loss_mask"][..., row]
    total += weights[row] * (losses * mask).sum() / jnp.maximum(mask.sum(), 1.0)
  return total


@pytest.mark.parametrize(
  ("length", "share", "weights"), [(16, 0.4, ()), (24, 0.05, (1.0, 0.5, 0.25, 2.0)), (7, 1.0, ())]
)
def test_value_and_gradient_are_those_of_the_rows_one_by_one(length, share, weights):
  model, batch, loss = Model(key=KEY), make_batch(length, share=share), RowLoss(kinds=TASKS, weights=weights)
  ours = jax.jit(jax.value_and_grad(lambda model: loss(model, batch, KEY)[0]))(model)
  expected = jax.jit(jax.value_and_grad(lambda model: plain(model, batch, weights or (0.25,) * 4)))(model)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_rows_without_targets_have_no_loss_and_teach_nothing():
  model, loss = Model(key=KEY), RowLoss(kinds=TASKS)
  batch = make_batch(16, rows=(3,))
  (_, metrics), gradient = jax.jit(jax.value_and_grad(lambda model: loss(model, batch, KEY), has_aux=True))(model)
  assert all(float(metrics[f"loss_audio_{layer}"][1]) == 0.0 for layer in range(3))
  assert float(jnp.abs(gradient.codes[...]).max()) == 0.0 and float(jnp.abs(gradient.text[...]).max()) > 0.0
  nothing = make_batch(16, share=0.0)
  value, gradient = jax.jit(jax.value_and_grad(lambda model: loss(model, nothing, KEY)[0]))(model)
  assert float(value) == 0.0 and all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(gradient))


def test_metrics_by_task_add_up_to_those_by_row():
  _, metrics = jax.jit(lambda model, batch: RowLoss(kinds=TASKS)(model, batch, KEY))(Model(key=KEY), make_batch(16))
  for group, rows in (("audio", [f"audio_{layer}" for layer in range(3)]), ("text", ["text"])):
    by_row = np.sum([metrics[f"loss_{row}"] for row in rows], axis=0)
    by_task = np.sum([metrics[f"{group}_{task}"] for task in TASKS], axis=0)
    np.testing.assert_allclose(by_task, by_row, rtol=1e-5)


def test_every_row_needs_a_weight():
  with pytest.raises(UserError, match="2 weights for 4 rows"):
    RowLoss(kinds=TASKS, weights=(1.0, 1.0))(Model(key=KEY), make_batch(8), KEY)
