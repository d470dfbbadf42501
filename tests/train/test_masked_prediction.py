import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.hubert_pretraining import HubertPretrainingConfig
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig
from omni_jax.train.masked_prediction import MaskedPrediction
from tests.models.drawn import drawn
from tests.speech.parts import KMEANS
from tests.speech.test_mfcc import CONFIG as CEPSTRA

HUBERT = KMEANS.hubert
CONFIG = HubertPretrainingConfig(hubert=HUBERT, labeller=CEPSTRA, class_width=6, temperature=0.1)
LOSS = MaskedPrediction(span_share=0.2, span_frames=3, penalty=0.5, unmasked=0.25)


def batch(rows=2, length=6000):
  waveform = np.random.default_rng(0).normal(size=(rows, length)).astype(np.float32)
  return {"waveform": jnp.asarray(waveform), "samples": jnp.array([length, 3500], jnp.int32)[:rows]}


@pytest.fixture(scope="module")
def model():
  return drawn(CONFIG)


@pytest.fixture(scope="module")
def evaluated(model):
  return jax.jit(LOSS)(model, batch(), jax.random.key(1))


def test_the_loss_is_its_parts(model, evaluated):
  loss, parts = evaluated
  mean = {name: float(total / count) for name, (total, count) in parts.items()}
  assert float(loss) == pytest.approx(mean["masked"] + 0.25 * mean["seen"] + 0.5 * mean["stem_square"], rel=1e-5)
  assert 0 < mean["masked_share"] < 1 and 0 <= mean["accuracy"] <= 1
  assert float(parts["masked"][1] + parts["seen"][1]) == float(HUBERT.num_frames(6000) + HUBERT.num_frames(3500))
  assert 1 <= mean["classes_right"] <= CEPSTRA.num_classes


def test_what_is_counted_is_the_cross_entropy_of_cosines(model, evaluated):
  waveform, samples = batch().values()
  masked = np.asarray(LOSS.spans(jax.random.key(1), (2, 18)))

  @jax.jit
  def told(model):
    student = model.student
    projected = student.mask(student.project(student.frames(waveform, samples)), jnp.asarray(masked))
    return model.labeller.units(waveform, samples), model.head(student.contextual(projected, jnp.array([18, 10])))

  labels, projected = map(np.asarray, told(model))
  classes = np.asarray(model.classes[...])
  total = 0.0
  for row, length in enumerate((18, 10)):
    for time in np.flatnonzero(masked[row, :length]):
      vector = projected[row, time]
      cosines = classes @ vector / np.linalg.norm(vector) / np.linalg.norm(classes, axis=-1) / 0.1
      total -= cosines[labels[row, time]] - np.log(np.exp(cosines).sum())
  assert float(evaluated[1]["masked"][0]) == pytest.approx(total, rel=1e-3)


def test_spans_have_their_length_and_share():
  spans = np.asarray(MaskedPrediction(span_share=0.01, span_frames=10).spans(jax.random.key(0), (8, 2000)))
  assert 0.06 < spans.mean() < 0.13  # 1 - 0.99 ** 10
  edges = np.diff(np.pad(spans, ((0, 0), (1, 0))).astype(int), axis=1)
  begins, ends = (np.argwhere(edges == sign) for sign in (1, -1))
  row = begins[begins[:, 0] == 0][0]
  assert ends[ends[:, 0] == 0][0][1] - row[1] >= 10


def test_the_stem_learns_at_its_rate_and_the_labeller_not_at_all(model):
  def gradient(loss):
    return trees.flatten(jax.jit(jax.grad(lambda model: loss(model, batch(), jax.random.key(1))[0]))(model))

  whole, tenth = (gradient(MaskedPrediction(penalty=0.0, stem_rate=rate)) for rate in (1.0, 0.1))
  path = "student.stem.0.convolution.weight"
  np.testing.assert_allclose(tenth[path], 0.1 * whole[path], rtol=1e-3, atol=1e-6)
  np.testing.assert_allclose(tenth["head.weight"], whole["head.weight"], rtol=1e-4, atol=1e-6)
  assert not np.asarray(whole["labeller.centres"]).any() and np.asarray(whole["student.mask_vector"]).any()


def test_a_batch_without_a_masked_frame_counts_nothing(model):
  short = {"waveform": jnp.ones((1, 400)), "samples": jnp.array([1], jnp.int32)}  # less than a window: no frame
  loss, parts = jax.jit(MaskedPrediction())(model, short, jax.random.key(0))
  assert float(loss) == 0 and float(parts["masked"][0]) == 0


def test_labels_of_an_earlier_hubert_start_under_the_names_of_its_stage():
  labeller = KMeansTokenizerConfig(hubert=HUBERT, layer=1, num_classes=5, longest_seconds=1.0)
  config = dataclasses.replace(CONFIG, labeller=labeller)
  parameters = trees.flatten(jax.eval_shape(lambda: config.make(key=jax.random.key(0))))
  offered = config.offered(parameters)
  assert set(trees.paths(drawn(labeller))) <= set(offered) and len(offered) == len(parameters)
  assert set(config.adopt(offered, parameters)) == set(parameters)


def test_settings_that_do_not_fit_are_told():
  with pytest.raises(UserError, match="a label for each frame"):
    other = dataclasses.replace(CEPSTRA.mel, hop_samples=160)
    dataclasses.replace(CONFIG, labeller=dataclasses.replace(CEPSTRA, mel=other))
  with pytest.raises(UserError, match="span_frames at least 1"):
    MaskedPrediction(span_frames=0)
