"""Measuring a vocoder: each figure of a case whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.batches.spoken import SpokenSets
from omni_jax.core.styles import ALL_STYLES
from omni_jax.evaluate import voices
from omni_jax.evaluate.voices import Utterance
from omni_jax.speech.unit_hifigan import UnitHiFiGAN
from tests.batches.spoken_sets import RAW, write_sets
from tests.speech.drawn import drawn_model
from tests.train.duels import LOSS, VOCODER, Clips


def utterance(units) -> Utterance:
  return Utterance("x", ALL_STYLES[0], np.array(units, np.int32), np.zeros(16000, np.float32))


class Tokenizer:
  """Hears the units that a sound was made of, each twice; every sound is one number for each unit."""

  def encode_batch(self, waveforms):
    return [np.repeat(waveform.astype(np.int32), 2) for waveform in waveforms]


class Stream:
  """Says ten samples for each unit, from the third unit on."""

  def __init__(self, style):
    self.waiting = 0

  def push(self, units):
    self.waiting += 10 * len(units)
    given = self.waiting if self.waiting > 20 else 0
    self.waiting -= given
    return np.zeros(given)

  def finish(self):
    return np.zeros(self.waiting)


def test_utterances_are_those_of_the_split(tmp_path):
  sets = SpokenSets(**write_sets(tmp_path), voices=("b",))
  (found,) = voices.held_out(sets, split="train", limit=5)
  assert found.units.tolist() == [50, 7, *range(20, 30)] and len(found.recording) == 640 * len(RAW)
  assert str(found.style) == "male-sad-low" and found.text == "x"


def test_units_that_are_heard_again_have_no_error():
  given = [utterance([1, 2, 3]), utterance([4, 5, 6, 7])]
  said = [np.array([1, 2, 3]), np.array([4, 5, 9, 7])]
  errors = voices.unit_errors(given, said, Tokenizer())
  assert errors.errors == (0, 1) and errors.lengths == (3, 4)


def test_length_and_latency():
  given = [utterance(range(6)), utterance(range(9))]
  assert voices.lengths(given, [np.zeros(8000)] * 2, sample_rate=16000).value == pytest.approx(0.5)
  found = voices.latency(given, Stream, sample_rate=100)
  assert found.sound_seconds == pytest.approx(0.75) and 0 < found.first_seconds < 1 and found.cpu_per_second >= 0


def test_a_vocoder_is_compared_by_its_own_distances():
  clips = [Clips().clip(index) for index in range(4)]
  batches = [{name: np.stack([clip[name] for clip in pair]) for name in pair[0]} for pair in (clips[:2], clips[2:])]
  model = drawn_model(VOCODER)
  assert isinstance(model, UnitHiFiGAN)
  found = voices.distances(LOSS, model, batches)
  imitate = jax.jit(lambda batch: LOSS.imitate(model, batch, jax.random.key(0)).waveform)
  made = [imitate(batch) for batch in batches]
  name, _, distance = LOSS.losses.distances[0]
  pairs = zip(made, batches, strict=True)
  wanted = np.mean([float(distance(one, jnp.asarray(batch["waveform"]))) for one, batch in pairs])
  assert name == "mel" and found["mel"].value == pytest.approx(wanted, rel=1e-4)
