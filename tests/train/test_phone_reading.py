import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.speech.phone_reader import PhoneReaderConfig
from omni_jax.train.alignment import log_likelihood
from omni_jax.train.phone_reading import PhoneReading
from tests.models.drawn import drawn
from tests.speech.test_whisper import TINY

CONFIG = PhoneReaderConfig(hearing=TINY, num_phones=5)
SAMPLES = np.array([5000, 2400], np.int32)
PHONES = np.array([[1, 4, 1], [2, 0, 0]], np.int32)


def batch(tail=0.0):
  waveform = np.random.default_rng(0).normal(size=(2, 6400)).astype(np.float32)
  waveform *= np.arange(6400) < SAMPLES[:, None]
  return {
    "waveform": jnp.asarray(waveform),
    "samples": jnp.asarray(SAMPLES),
    "phones": jnp.asarray(PHONES + np.where(PHONES == 0, int(tail), 0)),
    "num_phones": jnp.array([3, 1], jnp.int32),
  }


@pytest.fixture(scope="module")
def model():
  return drawn(CONFIG)


@jax.jit
def evaluated(model, batch):
  return jax.value_and_grad(lambda model: PhoneReading()(model, batch, jax.random.key(0)), has_aux=True)(model)


def test_vectors_are_counted_as_the_model_that_listens_counts_them(model):
  counted = model.num_frames(jnp.array([0, 319, 320, 5000, 6400]))
  assert counted.tolist() == [int(TINY.num_frames(samples)) for samples in (0, 319, 320, 5000, 6400)]


def test_the_gradient_is_that_of_the_likelihood_over_all_alignments(model):
  (_, metrics), gradient = evaluated(model, batch())
  silence = CONFIG.num_phones
  labels = jnp.array([[silence, 1, 4, 1, silence], [silence, 2, silence, silence, silence]])

  @jax.jit
  @jax.grad
  def direct(model):
    log_probs = jax.nn.log_softmax(model(batch()["waveform"]))
    scores = jnp.take_along_axis(log_probs, labels[:, None, :], axis=-1)
    frames = model.num_frames(batch()["samples"])
    return -jax.vmap(log_likelihood)(scores, frames, batch()["num_phones"]).sum() / frames.sum()

  assert float(metrics["frames"][1]) == pytest.approx(int(sum(TINY.num_frames(n) for n in SAMPLES)), rel=1e-5)
  for path, leaf in trees.flatten(direct(model)).items():
    np.testing.assert_allclose(leaf, trees.flatten(gradient)[path], atol=2e-5, err_msg=path)


def test_what_lies_behind_the_last_phone_is_not_read(model):
  (loss, _), _ = evaluated(model, batch())
  (other, _), _ = evaluated(model, batch(tail=3))
  assert float(loss) == float(other)
