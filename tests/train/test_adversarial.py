import functools
import inspect
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omni_jax.core import sharding
from omni_jax.speech.discriminators import CriticConfig, PeriodsConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.snac import SNACConfig
from omni_jax.speech.spectrogram import MelDistance, SpectraDistance, SpectrumConfig
from omni_jax.speech.unit_hifigan import DurationConfig, UnitHiFiGANConfig
from omni_jax.train import adversarial
from omni_jax.train.adversarial import Duel, make_adversarial_step
from omni_jax.train.adversarial_losses import AdversarialLosses
from omni_jax.train.imitations import CopySpeech, SpeakUnits
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.state import make_side
from tests.devices import environment

CRITIC = CriticConfig(scales=None, periods=PeriodsConfig(periods=(2, 3), widths=(4, 8)), spectra=None)
SPECTRUM = SpectrumConfig(fft_size=32, hop_samples=8, window_samples=32)
LOSSES = AdversarialLosses(
  distances=(
    ("mel", 45.0, MelDistance(sample_rate=1000, spectrum=SPECTRUM, num_mels=8)),
    ("spectra", 1.0, SpectraDistance(spectra=(SPECTRUM,))),
  )
)
UNITS = UnitHiFiGANConfig(
  sample_rate=1000,
  codebook_size=8,
  embedding=8,
  speakers=0,
  duration=DurationConfig(width=8, taps=3, dropout=0.1),
  generator=HiFiGANConfig(
    inputs=8, width=16, rates=(4, 2), taps=(8, 4), residual="2", block_taps=(3,), block_dilations=((1, 2),)
  ),
)
CODEC = SNACConfig(
  sample_rate=1000,
  encoder_width=4,
  encoder_rates=(4,),
  decoder_width=8,
  decoder_rates=(4,),
  codebook_size=8,
  code_width=3,
  strides=(2, 1),
  depthwise=True,
  noise=True,
)


def clip():
  time = np.arange(128) / 1000
  rows = [np.sin(2 * np.pi * hz * time) * 0.5 for hz in (70, 110)]
  return np.stack(rows).astype(np.float32)


def unit_batch():
  units = np.repeat(np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.int32), 4, axis=1)
  counts = np.full((2, 4), 4, np.int32)
  counted = np.array([[0, 1, 1, 0]] * 2, np.float32)
  return {"units": units, "waveform": clip(), "reduced": units[:, ::4], "counts": counts, "counted": counted}


def side(config, mesh, *, seed):
  settings = OptimizerConfig(learning_rate=3e-3, schedule="constant", beta1=0.8, beta2=0.99, weight_decay=0.01)
  made = make_side(lambda: config.make(key=jax.random.key(seed)), settings, mesh=mesh, steps=100)
  return made, made.create({})


def updated(side, state, gradient):
  updates, _ = side.optimizer.transform.update(gradient, state.moments, state.learning)
  return state._replace(learning=optax.apply_updates(state.learning, updates))


@functools.cache
def contest(config, imitate):
  """Both sides, their first states on the host, and the compiled step: what is slow, once for each vocoder."""
  with jax.set_mesh(sharding.make_mesh()):
    generator, maker = side(config, sharding.make_mesh(), seed=0)
    critic, judges = side(CRITIC, sharding.make_mesh(), seed=1)
    step = make_adversarial_step(imitate, LOSSES, generator=generator, critic=critic, seed=0)
  return generator, critic, jax.tree.map(np.array, Duel(maker, judges)), step


def run(config, imitate, batch, *, steps):
  _, _, before, step = contest(config, imitate)
  mesh = sharding.make_mesh()
  with jax.set_mesh(mesh):
    duel, history = jax.tree.map(jnp.asarray, before), []
    batch = {name: jax.device_put(value, sharding.batch_sharding(mesh)) for name, value in batch.items()}
    for _ in range(steps):
      duel, sums = step(duel, batch)
      history.append({name: float(total) / float(count) for name, (total, count) in sums.items()})
  return before, duel, history


@pytest.mark.parametrize(
  ("config", "imitate", "batch"),
  [(UNITS, SpeakUnits(), unit_batch()), (CODEC, CopySpeech(), {"waveform": clip()})],
  ids=["unit-hifigan", "snac"],
)
def test_one_tiny_batch_is_learned(config, imitate, batch):
  before, duel, history = run(config, imitate, batch, steps=40)
  first, last = (sum(row["mel"] for row in rows) / 5 for rows in (history[:5], history[-5:]))
  assert last < 0.6 * first
  assert all(math.isfinite(value) for row in history for value in row.values())
  assert int(duel.generator.step) == int(duel.critic.step) == 40
  for old, new in ((before.generator, duel.generator), (before.critic, duel.critic)):
    still = [path for path in old.learning if np.array_equal(old.learning[path], new.learning[path])]
    assert still == []
  assert "critic_right" in history[0] and history[-1]["gradient_norm"] > 0


def test_the_generator_learns_from_critics_that_do_not_learn_from_it():
  """The step equals two gradients written out: critics from a clip that stands still, then the generator."""
  imitate, key = SpeakUnits(), jax.random.fold_in(jax.random.key(0), 0)
  generator, critic, before, _ = contest(UNITS, imitate)
  batch = {name: jnp.asarray(value) for name, value in unit_batch().items()}

  @jax.jit
  def by_hand(maker, judges):
    made = imitate(generator.build(maker.learning, maker), batch, key)

    def tell(learning):
      judge = critic.build(learning, judges)
      return LOSSES.critic(judge(made.target), judge(jax.lax.stop_gradient(made.waveform)))[0]

    after = updated(critic, judges, jax.grad(tell)(judges.learning))

    def convince(learning):
      made = imitate(generator.build(learning, maker), batch, key)
      judge = critic.build(after.learning, judges)
      value, _ = LOSSES.generator(judge(made.target), judge(made.waveform), waveform=made.waveform, target=made.target)
      return value + made.loss

    return updated(generator, maker, jax.grad(convince)(maker.learning)), after

  duel = jax.tree.map(jnp.asarray, before)
  expected = jax.tree.map(np.array, by_hand(duel.generator, duel.critic))
  _, found, _ = run(UNITS, imitate, unit_batch(), steps=1)
  for wanted, made in zip(expected, found, strict=True):
    for path, parameter in wanted.learning.items():
      # Adam divides by the gradient's size: where that is rounding, so is the step.
      assert np.isclose(made.learning[path], parameter, atol=3e-5).mean() > 0.98, path


def test_the_step_is_short():
  lines = inspect.getsource(adversarial.make_adversarial_step).splitlines()
  assert len(lines) <= 60


@pytest.mark.slow
def test_two_devices_equal_one():
  """The same step with the batch and the parameters split over two fake devices."""
  script = (
    "from tests.train.test_adversarial import *\n"
    "_, duel, history = run(UNITS, SpeakUnits(), unit_batch(), steps=2)\n"
    "split = [leaf for leaf in duel.generator.learning.values() if not leaf.sharding.is_fully_replicated]\n"
    "print(jax.device_count(), len(split), *(row['loss'] for row in history))\n"
  )
  found = {}
  for devices in (1, 2):
    done = subprocess.run(
      [sys.executable, "-c", script], env=environment(devices), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found[devices] = [float(word) for word in done.stdout.split()]
  assert [found[devices][0] for devices in (1, 2)] == [1, 2]
  assert found[1][1] == 0 and found[2][1] > 10
  np.testing.assert_allclose(found[2][2:], found[1][2:], rtol=1e-4)
