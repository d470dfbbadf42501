import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import style as style_file
from configs.emova import tokenizer as tokenizer_file
from omni_jax.nn.convolution import zero_padding
from omni_jax.train.speech_losses import StyleLoss, TokenizerLoss, ctc_sum

TOKENIZER = dataclasses.replace(
  tokenizer_file.MODEL, num_phones=5, stem_width=16, width=16, depth=1, decoder_width=16, decoder_depth=1
)


def _batch(rows=2, length=8000):
  generator = np.random.default_rng(0)
  batch = {
    "waveform": generator.normal(size=(rows, length)).astype(np.float32),
    "samples": np.array([length, length - 1700], np.int32)[:rows],
    "phones": generator.integers(0, 5, (rows, 6)).astype(np.int32),
    "num_phones": np.array([4, 3], np.int32)[:rows],
    "style": np.array([[0, 3, 2], [-1, -1, -1]], np.int32)[:rows],
  }
  return {name: jnp.asarray(value) for name, value in batch.items()}


def _all_paths(probabilities, phones):
  """Sums the probability of every frame labelling that reads as `phones`."""
  frames, size = probabilities.shape
  total = 0.0
  for path in itertools.product(range(size), repeat=frames):
    kept = [label for place, label in enumerate(path) if place == 0 or label != path[place - 1]]
    if [label for label in kept if label != size - 1] == phones:
      total += np.prod([probabilities[frame, label] for frame, label in enumerate(path)])
  return total


def test_ctc_sums_over_all_alignments():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32))
  phones, num_frames = [1, 1], 5  # the blank is 2; the last frame is padding
  probabilities = np.asarray(jax.nn.softmax(logits))[0, :num_frames]
  loss, counted = jax.jit(ctc_sum)(logits, jnp.array([5]), phones=jnp.array([[1, 1, 0]]), num_phones=jnp.array([2]))
  assert float(loss) == pytest.approx(-np.log(_all_paths(probabilities, phones)), rel=1e-4)
  assert float(counted) == 2


def test_ctc_counts_nothing_where_no_alignment_exists():
  logits = jnp.zeros((2, 3, 3))
  phones = jnp.array([[1, 1, 0], [0, 1, 0]])  # the first needs a blank between its equal phones: four frames
  loss, counted = jax.jit(ctc_sum)(logits, jnp.array([3, 3]), phones=phones, num_phones=jnp.array([3, 2]))
  assert float(counted) == 2 and np.isfinite(loss) and float(loss) < 100


def test_tokenizer_loss_is_its_parts():
  model = TOKENIZER.make(key=jax.random.key(0))
  evaluate = jax.jit(TokenizerLoss(frames=0.125))
  loss, metrics = evaluate(model, _batch(), jax.random.key(0))
  part = {name: float(total / count) for name, (total, count) in metrics.items()}
  assert float(loss) == pytest.approx(part["ctc"] + 0.125 * part["frames"], rel=1e-5)
  num_units = int(model.num_units(_batch()["samples"]).sum())
  assert 1 <= part["perplexity"] <= part["units_used"] <= num_units
  assert metrics["phone_errors"][1] == 7 and part["phone_errors"] > 0


def test_padding_changes_no_loss():
  model = TOKENIZER.make(key=jax.random.key(0))
  batch = _batch()
  batch["waveform"] = zero_padding(batch["waveform"][..., None], batch["samples"])[..., 0]
  longer = {**batch, "waveform": jnp.pad(batch["waveform"], ((0, 0), (0, 2000)))}
  evaluate = jax.jit(TokenizerLoss())
  losses = [float(evaluate(model, one, jax.random.key(0))[0]) for one in (batch, longer)]
  assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_augmentation_off_changes_nothing_and_masks_change_spans():
  features = jnp.asarray(np.random.default_rng(0).normal(size=(3, 40, 64)).astype(np.float32))
  np.testing.assert_array_equal(TokenizerLoss().augment(features, jax.random.key(0)), features)
  masked = TokenizerLoss(time_masks=1, time_mask_frames=10, mel_masks=1, mel_mask_bins=5)
  zero = np.asarray(masked.augment(features, jax.random.key(0)) == 0)
  frames, bins = zero.all(2).sum(1), zero.all(1).sum(1)
  assert (frames <= 10).all() and (bins <= 5).all() and frames.sum() + bins.sum() > 0
  np.testing.assert_array_equal(zero, zero.all(2)[:, :, None] | zero.all(1)[:, None, :])


def test_warp_moves_a_peak_along_the_mel_axis():
  features = jnp.zeros((8, 2, 64)).at[:, :, 30].set(1.0)
  peaks = np.asarray(TokenizerLoss(warp=0.2).augment(features, jax.random.key(1)).argmax(-1))[:, 0]
  assert len(set(peaks.tolist())) > 3 and peaks.min() >= 24 and peaks.max() <= 38


def test_style_loss_ignores_recordings_of_unknown_style():
  model = dataclasses.replace(style_file.MODEL, width=16).make(key=jax.random.key(0))
  batch = _batch()
  evaluate = jax.jit(StyleLoss(smoothing=0.1))
  loss, metrics = evaluate(model, batch, jax.random.key(0))
  alone, _ = evaluate(model, {name: value[:1] for name, value in batch.items()}, jax.random.key(0))
  assert float(loss) == pytest.approx(float(alone), rel=1e-4)
  assert [float(metrics[name][1]) for name in ("gender", "emotion", "pitch")] == [1.0] * 3


@pytest.mark.parametrize("file", [tokenizer_file, style_file])
@pytest.mark.parametrize("name", ["tiny", "smoke"])
def test_configs_step_once_and_fit_their_data(file, name, tmp_path):
  run = getattr(file, name)(tmp_path)
  assert run.data.num_phones == tokenizer_file.MODEL.num_phones
  shapes = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  bucket = run.data.buckets[0]
  batch = {
    "waveform": jax.ShapeDtypeStruct((bucket.rows, bucket.samples), jnp.float32),
    "samples": jax.ShapeDtypeStruct((bucket.rows,), jnp.int32),
    "phones": jax.ShapeDtypeStruct((bucket.rows, run.data.max_phones), jnp.int32),
    "num_phones": jax.ShapeDtypeStruct((bucket.rows,), jnp.int32),
    "style": jax.ShapeDtypeStruct((bucket.rows, 3), jnp.int32),
  }
  step = jax.value_and_grad(run.loss, has_aux=True)
  (loss, _), gradient = jax.eval_shape(step, shapes, batch, jax.random.key(0))
  assert loss.shape == () and jax.tree.structure(gradient) == jax.tree.structure(shapes)
