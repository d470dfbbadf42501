"""The step: parts equal the whole, half precision stays inside the loss, steps that are not finite leave no trace."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import sharding, trees
from omni_jax.core.config import from_json, replace, to_json
from omni_jax.core.errors import UserError
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.train.loop import train
from omni_jax.train.losses import CalmNextToken, next_token
from omni_jax.train.metrics import read_metrics
from omni_jax.train.optimizer import OptimizerConfig, make_optimizer
from omni_jax.train.state import abstract_state, describe, kept_exact
from omni_jax.train.step import PLAIN, StepConfig, _narrowed, make_step
from tests.train import packed
from tests.train.on_meshes import drawn
from tests.train.stages import params_of
from tests.train.toy import Toy, ToyConfig, ToyData, make_run

EMOVA = packed.model_config()
ADAM = OptimizerConfig(learning_rate=1e-2, clip_norm=1.0, warmup_steps=3)
CALM = CalmNextToken(z_weight=1e-2)


class BalancedToy(Toy):
  def hidden_and_balance(self, batch):
    return self.hidden(batch), jnp.zeros(())


class BalancedConfig(ToyConfig):
  def make(self, *, key):
    return BalancedToy(self, key=key)


MODEL = BalancedConfig(width=16, depth=1, vocab_size=32)


def batch_of(rows=8, *, length=12):
  """A batch whose rows differ in how much of them is learned, one of them in nothing."""
  data = ToyData(rows=rows, length=length, vocab_size=32)
  records = [data.record(index) for index in range(rows)]
  batch = {name: np.stack([record[name] for record in records]) for name in records[0]}
  learned = np.arange(length)[None] < 1.5 * np.arange(rows)[:, None]
  batch["loss_mask"] = (learned * np.where(batch["target_kind"] == 2, 0.5, 1.0)).astype(np.float32)
  return {name: jnp.asarray(array) for name, array in batch.items()}


def one_step(config=PLAIN, *, loss=CALM, batch=None, optimizer=ADAM):
  """Returns (state, sums) after the first step, and the state before it."""
  shapes = jax.eval_shape(lambda: MODEL.make(key=jax.random.key(1)))
  ready = make_optimizer(optimizer, parameters=describe(shapes), steps=10)
  abstract = abstract_state(shapes, ready, sharding.make_mesh())
  before = drawn(abstract)
  step = make_step(loss, shapes, optimizer=ready, abstract=abstract, seed=0, config=config)
  return *step(jax.tree.map(jnp.asarray, before), batch_of() if batch is None else batch), before


def momentum(state):
  return {path: leaf for path, leaf in trees.flatten(state.moments).items() if ".mu." in path}


@pytest.fixture(scope="module")
def whole_step():
  """(state, sums) of the plain step on the whole batch."""
  return one_step()[:2]


def test_parts_of_a_batch_equal_the_whole_whatever_their_masks(whole_step):
  whole, expected = whole_step
  state, sums, _ = one_step(StepConfig(accumulate=8))
  for name in ("loss", "accuracy", "z_loss", "loss_text", "loss_unit", "gradient_norm"):
    np.testing.assert_allclose(sums[name][0], expected[name][0], rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(sums[name][1], expected[name][1], rtol=1e-6, err_msg=name)
  for path, leaf in momentum(state).items():
    np.testing.assert_allclose(leaf, momentum(whole)[path], rtol=1e-4, atol=1e-7, err_msg=path)


def test_means_of_parts_would_not_equal_the_whole(whole_step):
  """The same batch, its parts averaged as if they had as many targets: the fault that the weights prevent."""

  def unweighted(model, batch, key):
    loss, sums = CALM(model, batch, key)
    return loss, sums | {"loss": (loss, jnp.ones(()))}

  _, sums, _ = one_step(StepConfig(accumulate=4), loss=unweighted)
  # 9e-3 here; weighted parts differ from the whole by at most 2e-6 (above).
  assert abs(float(sums["loss"][0]) / float(whole_step[1]["loss"][0]) - 1) > 1e-3


def test_a_loss_without_counts_is_not_accumulated():
  def silent(model, batch, key):
    return CALM(model, batch, key)[0], {}

  with pytest.raises(UserError, match="how many targets"):
    one_step(StepConfig(accumulate=2), loss=silent)


def test_half_precision_stays_inside_the_loss(whole_step):
  seen = {}

  def watching(model, batch, key):
    seen.update({path: leaf.dtype for path, leaf in trees.flatten(model).items()})
    return CALM(model, batch, key)

  whole, expected = whole_step
  state, sums, _ = one_step(StepConfig(compute_dtype="bfloat16"), loss=watching)
  assert set(seen.values()) == {jnp.dtype("bfloat16")}
  for leaf in jax.tree.leaves((state.learning, state.moments)):
    assert leaf.dtype in (jnp.float32, jnp.int32)
  assert sums["loss"][0].dtype == jnp.float32
  np.testing.assert_allclose(sums["loss"][0], expected["loss"][0], rtol=1e-2)
  ours, theirs = (np.concatenate([leaf.ravel() for leaf in momentum(one).values()]) for one in (state, whole))
  assert np.dot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.999


def test_no_part_of_a_model_widens_what_it_is_given():
  model = jax.eval_shape(lambda: EMOVA.make(key=jax.random.key(0)))
  narrow = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), model)
  batch = {name: jnp.asarray(array) for name, array in packed.batch_of(2).items()}
  assert jax.eval_shape(lambda model: model.hidden(batch), narrow).dtype == jnp.bfloat16
  assert jax.eval_shape(lambda model: model.embed(batch), narrow).dtype == jnp.bfloat16


def test_scales_of_quantised_matrices_stay_exact():
  adapted = AdaptedConfig(base=EMOVA, targets=(r"decoder\.blocks",), rank=2, alpha=4.0, bits="int8", block=8)
  model = jax.eval_shape(lambda: adapted.make(key=jax.random.key(0)))
  exact = kept_exact(model)
  assert exact == {path for path in trees.paths(model) if path.endswith(".scales")} and exact
  narrow = jax.eval_shape(lambda leaves: _narrowed(leaves, "bfloat16", exact=exact), trees.flatten(model))
  found = {path.rpartition(".")[2]: str(leaf.dtype) for path, leaf in narrow.items() if path.startswith("codes.")}
  assert found == {"values": "int8", "scales": "float32"} and narrow["pairs.decoder.blocks.attention.key.weight.up"]


@pytest.mark.parametrize("algorithm", ["adamw", "adafactor"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_clocks(algorithm):
  optimizer = dataclasses.replace(ADAM, algorithm=algorithm)
  batch = batch_of() | {"loss_mask": batch_of()["loss_mask"] * jnp.inf}
  state, sums, before = one_step(StepConfig(bad_steps=1), batch=batch, optimizer=optimizer)
  assert not np.isfinite(sums["loss"][0])
  jax.tree.map(np.testing.assert_array_equal, state.learning, before.learning)
  moved = [
    path
    for (path, after), old in zip(trees.flatten(state.moments).items(), jax.tree.leaves(before.moments), strict=True)
    if np.any(np.asarray(after) != old)
  ]
  assert len(moved) == 1 and moved[0].endswith("count")  # the schedule's
  assert int(state.step) == 1


def test_a_run_goes_over_a_few_bad_steps_and_stops_at_too_many(tmp_path):
  # Records 40 to 47 are bad: one batch of eight in eight.
  data = dataclasses.replace(ToyData(rows=8, length=12, vocab_size=32), bad_from=56, num_records=64)
  run = make_run(data=data, steps=10, log_every=5, step=StepConfig(bad_steps=1))
  stage = train(run, tmp_path)
  lines = read_metrics(stage)
  assert sum(line.get("skipped_steps", 0) for line in lines) == 1
  assert all(np.isfinite(line["loss"]) for line in lines)
  assert all(np.isfinite(leaf).all() for leaf in params_of(stage).values())
  worse = dataclasses.replace(data, bad_from=40)
  with pytest.raises(UserError, match="2 in turn"):
    train(dataclasses.replace(run, data=worse, name="worse"), tmp_path)


def test_norms_are_reported_and_a_finite_step_is_the_same_with_skipping(whole_step):
  state, sums, _ = one_step(StepConfig(norms=("tokens", "blocks", "head"), bad_steps=3))
  jax.tree.map(np.testing.assert_array_equal, state.learning, whole_step[0].learning)
  parts = [float(sums[f"gradient_norm/{part}"][0]) for part in ("tokens", "blocks", "head")]
  np.testing.assert_allclose(np.linalg.norm(parts), sums["gradient_norm"][0], rtol=1e-6)
  with pytest.raises(UserError, match="'heads'"):
    one_step(StepConfig(norms=("heads",)))


@pytest.mark.parametrize("changes", [{"compute_dtype": "float16"}, {"accumulate": 0}, {"bad_steps": -1}])
def test_impossible_steps_are_refused(changes):
  with pytest.raises(UserError, match="compute_dtype"):
    StepConfig(**changes)


def test_a_batch_that_does_not_split_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"3 parts(.|\n)*step\.accumulate"):
    train(make_run(step=StepConfig(accumulate=3)), tmp_path)


def test_a_run_stored_before_steps_had_settings_is_the_same_run():
  run = make_run(model=EMOVA, data=EMOVA, loss=next_token)
  assert "step" not in to_json(run) and "moment_dtype" not in to_json(run.optimizer)
  changed = replace(run, {"step.accumulate": "4", "step.compute_dtype": "bfloat16", "model.decoder.remat": "full"})
  assert changed.step == StepConfig(accumulate=4, compute_dtype="bfloat16") and changed.model.decoder.remat == "full"
  assert from_json(to_json(changed)) == changed
  with pytest.raises(UserError, match="unknown remat"):
    replace(run, {"model.decoder.remat": "some"})
  with pytest.raises(UserError, match="holds a bool"):
    replace(run, {"model.decoder.remat": "3"})
