import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import spiral as spiral_file
from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.checkpoint.store import load_model
from omni_jax.convert.speech_to_unit import export_speech_to_unit
from omni_jax.core import trees
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.speech.spiral import ConvolutionConfig, SpiralConfig, StageConfig
from omni_jax.train.loop import Run, train
from omni_jax.train.metrics import read_metrics
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.spiral_losses import PhoneLoss
from tests.speech.spirals import TINY, drawn, recordings

# As small as it can be: most of these tests is compilation.
SMALL = dataclasses.replace(
  TINY,
  encoder=SpiralConfig(
    num_mels=128,
    stages=(
      StageConfig(
        convolutions=(ConvolutionConfig(width=24, taps=5, stride=2), ConvolutionConfig(width=24, taps=5, stride=2)),
        depth=1,
        num_heads=2,
        mlp_dim=32,
        layer_drop=0.1,
      ),
    ),
    position_taps=8,
    position_groups=1,
    dropout=0.02,
  ),
  reader_depth=1,
)
PHONES = ["low", "middle", "high"]
HZ = dict(zip(PHONES, (200.0, 700.0, 2500.0), strict=True))


def _batch():
  rows = np.zeros((2, 8000), np.float32)
  rows[0], rows[1, :5000] = *recordings(8000), *recordings(5000)
  batch = {
    "waveform": rows,
    "samples": np.array([8000, 5000], np.int32),
    "phones": np.array([[1, 2, 3], [4, 4, 0]], np.int32),
    "num_phones": np.array([3, 2], np.int32),
  }
  return {name: jnp.asarray(value) for name, value in batch.items()}


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
  """A corpus of tones, each a phone."""
  folder = tmp_path_factory.mktemp("corpus")
  generator = np.random.default_rng(0)
  examples = []
  for index in range(12):
    phones = [PHONES[place] for place in generator.integers(0, 3, 3)]
    time = np.arange(2400) / 16000
    tones = [np.sin(2 * np.pi * HZ[phone] * time) * np.hanning(2400) for phone in phones]
    waveform = 0.3 * np.concatenate(tones) + 0.003 * generator.normal(size=7200)
    turn = Turn("user", f"number {index}", audio=encode_flac(waveform), phones=" ".join(phones))
    examples.append(Example(id=str(index), task="speech", turns=(turn,)))
  write_split(folder / "speech", "train", examples)
  (folder / "phones.json").write_text(json.dumps(PHONES))
  return UtteranceBatches(
    sets=(folder / "speech",), split="train", phones=folder / "phones.json", num_phones=7, max_phones=4,
    buckets=(Bucket(seconds=0.5, rows=4),), seed=0,
  )  # fmt: skip


def test_the_loss_is_the_ctc_of_a_recording_and_counts_changes_of_unit():
  batch, model = _batch(), drawn(SMALL)
  loss, metrics = jax.jit(PhoneLoss(dropout=False))(model, batch, jax.random.key(0))
  total, phones = metrics["ctc"]
  assert float(phones) == 5 and float(loss) == pytest.approx(float(total) / 2)
  changes, units = metrics["changes"]
  assert float(units) == 13 + 8 and 0 < float(changes) <= 12 + 7
  assert 1 < float(metrics["perplexity"][0]) <= float(metrics["units_used"][0]) <= 21
  assert float(metrics["phone_errors"][1]) == 5 and "held_out_errors" not in metrics
  other, _ = jax.jit(PhoneLoss())(model, batch, jax.random.key(0))
  assert abs(float(other) - float(loss)) > 1e-3


def test_a_probe_adds_the_loss_read_before_the_bottleneck_and_changes_no_other_weight():
  batch, probed = _batch(), dataclasses.replace(SMALL, probe=True)
  plain, model = (jax.jit(lambda key, own=own: own.make(key=key))(jax.random.key(0)) for own in (SMALL, probed))
  leaves, others = trees.flatten(model), trees.flatten(plain)
  assert set(leaves) - set(others) == {"probe.weight", "probe.bias"}
  assert all(np.array_equal(leaf, leaves[path]) for path, leaf in others.items())
  loss, metrics = jax.jit(PhoneLoss(dropout=False, probe=0.5))(model, batch, jax.random.key(0))
  read, early = float(metrics["ctc"][0]), float(metrics["probe"][0])
  assert float(loss) == pytest.approx((read + 0.5 * early) / 2, rel=1e-5) and early > 0 and early != read
  assert set(export_speech_to_unit(probed, leaves)) == set(export_speech_to_unit(SMALL, others))


def test_a_row_that_is_not_learned_is_judged_and_leaves_no_gradient():
  batch, model = _batch(), drawn(SMALL)
  held = batch | {"learned": jnp.array([True, False])}
  loss = PhoneLoss(dropout=False)
  step = jax.jit(jax.value_and_grad(lambda own, rows: loss(own, rows, jax.random.key(0)), has_aux=True))
  alone = {name: rows.at[1].set(rows[0]) for name, rows in batch.items()}
  (value, metrics), gradient = step(model, held)
  (expected, _), wanted = step(model, alone | {"num_phones": jnp.array([3, 0]), "learned": jnp.array([True, True])})
  assert float(value) == pytest.approx(2 * float(expected), rel=1e-5)  # one row counts, not two
  for leaf, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(leaf, 2 * other, atol=1e-4)
  assert float(metrics["phone_errors"][1]) == 3 and float(metrics["held_out_errors"][1]) == 2


def test_fine_tuning_trains_through_the_loop(speech, tmp_path):
  run = Run(
    name="spiral",
    model=SMALL,
    loss=PhoneLoss(),
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=5, schedule="constant", clip_norm=1.0),
    data=speech,
    steps=40,
    log_every=1,
  )
  stage = train(run, tmp_path)
  losses = [line["loss"] for line in read_metrics(stage)]
  assert np.isfinite(losses).all() and np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])
  model = load_model(stage)[1]
  assert len(model.encode(recordings(8000)[0])) == 13


@pytest.mark.parametrize("name", ["tiny", "smoke", "full"])
def test_configs_step_once_and_fit_their_data(name, tmp_path):
  run = getattr(spiral_file, name)(tmp_path)
  assert run.data.num_phones == run.model.num_phones
  shapes = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  bucket = run.data.buckets[0]
  batch = {
    "waveform": jax.ShapeDtypeStruct((bucket.rows, bucket.samples), jnp.float32),
    "samples": jax.ShapeDtypeStruct((bucket.rows,), jnp.int32),
    "phones": jax.ShapeDtypeStruct((bucket.rows, run.data.max_phones), jnp.int32),
    "num_phones": jax.ShapeDtypeStruct((bucket.rows,), jnp.int32),
  }
  step = jax.value_and_grad(run.loss, has_aux=True)
  (loss, _), gradient = jax.eval_shape(step, shapes, batch, jax.random.key(0))
  assert loss.shape == () and jax.tree.structure(gradient) == jax.tree.structure(shapes)
