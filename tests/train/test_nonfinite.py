"""A number that is not finite is followed to the operation, the lines and the layer that made it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.train.loop import train
from omni_jax.train.nonfinite import find_origin
from tests.train.stages import params_of
from tests.train.toy import ToyConfig, ToyData, make_run


def block(x, weight):
  return jnp.log(x + weight)  # NaN where the sum is below zero


def loss(x, weights):
  return jax.lax.scan(lambda x, weight: (jax.jit(block)(x, weight), None), x, weights)[0].sum()


def test_the_line_and_the_layer_are_named():
  weights = jnp.array([3.0, 4.0, -9.0, 5.0])
  for function in (loss, jax.checkpoint(loss), lambda *given: jax.value_and_grad(loss)(*given)):
    found = find_origin(function, jnp.ones(2), weights)
    assert found is not None and (found.operation, found.made, found.rounds) == ("log", "nan", (2,))
    assert found.lines[0].startswith("train/test_nonfinite.py:16 in block"), found.lines


def test_an_infinity_without_nan_is_found_too():
  found = find_origin(lambda x: jnp.exp(x * 100).sum(), jnp.ones(2))
  assert found is not None and (found.operation, found.made) == ("exp", "inf")


def test_a_choice_is_looked_into():
  found = find_origin(lambda x: jax.lax.cond(x > 0, lambda x: jnp.sqrt(-x), lambda x: x, x), jnp.ones(()))
  assert found is not None and found.operation == "sqrt"


def test_finite_programs_have_no_origin():
  assert find_origin(loss, jnp.ones(2), jnp.array([3.0, 4.0])) is None


def test_training_that_looks_names_operation_and_batch(tmp_path):
  data = ToyData(rows=8, length=12, vocab_size=32, bad_from=16)
  with pytest.raises(UserError) as told:
    train(make_run(data=data, model=ToyConfig(width=8, depth=1, vocab_size=32)), tmp_path, find_nan=True)
  # The mask times the noise on it: infinity times zero.
  assert "is nan in step 3: nan first made by `mul`, at train/toy.py" in str(told.value)
  assert "batch.loss_mask" in str(told.value)


def test_a_run_that_looks_ends_in_the_same_numbers(tmp_path):
  run = make_run(steps=2)
  ours = params_of(train(run, tmp_path / "looks", find_nan=True))
  for path, leaf in params_of(train(run, tmp_path / "plain")).items():
    np.testing.assert_allclose(ours[path], leaf, rtol=1e-6, err_msg=path)
