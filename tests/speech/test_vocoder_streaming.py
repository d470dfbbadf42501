"""Streaming equals offline, whatever the pieces; sound comes before the end; a finished stream is over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech import frames as time
from omni_jax.speech.frames import FrameClock, PhaseClock, VoicedFrames, lay_out
from tests.speech.vocoders import SMALL, make_vocoder, random_units

STYLE = Style("male", "angry", "low")


def _stream(units: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
  stream = make_vocoder().stream(STYLE)
  return [*(stream.push(piece) for piece in np.split(units, cuts)), stream.finish()]


@pytest.mark.parametrize("cuts", [[], [5, 6, 20], list(range(1, 40)), [150, 170]])
def test_pieces_equal_the_whole(cuts):
  units = random_units(200 if cuts and cuts[0] == 150 else 40)
  pieces = _stream(units, cuts)
  whole = make_vocoder().decode(units, STYLE)
  joined = np.concatenate(pieces)
  assert joined.shape == whole.shape
  np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-5)


def test_after_half_a_minute_pieces_still_equal_the_whole():
  """F0 is summed into phase: any rounding that depended on the pieces would grow."""
  units = random_units(1100, seed=5)
  whole = make_vocoder().decode(units, STYLE)
  assert len(whole) > 30 * 16000
  made = np.concatenate(_stream(units, list(range(40, len(units), 40))))
  np.testing.assert_allclose(made, whole, rtol=0, atol=1e-5)


def test_the_stream_equals_one_window_over_everything():
  """The network on all units and all frames at once: what the windows and their contexts stand for."""
  units, vocoder = random_units(40), make_vocoder()
  styles, ones = jnp.array([STYLE.indices]), jnp.ones((1, 40))

  @jax.jit
  def read(vocoder):
    return vocoder.read(jnp.asarray(units)[None], ones, styles)

  found = read(vocoder)
  counts = FrameClock().counts(np.asarray(found.durations[0]))
  total = int(counts.sum())

  @jax.jit
  def speak(vocoder, hidden, counts):
    layout = lay_out(counts, jnp.zeros(1, jnp.int32), total)
    return vocoder.shape(hidden, layout, styles)

  features = speak(vocoder, found.hidden, jnp.asarray(counts)[None])
  phases = PhaseClock().phases(np.asarray(features.f0_hz[0]))
  voiced = VoicedFrames(features.f0_hz, jnp.asarray(phases)[None], features.harmonic, features.noise)
  made = jax.jit(lambda frames: time.speak(frames, jnp.ones((1, total)), first=jnp.zeros(1, jnp.int32)))(voiced)
  whole = vocoder.decode(units, STYLE)
  # Windows of other shapes round F0 otherwise, and phase adds that up.
  np.testing.assert_allclose(made[0], whole, rtol=0, atol=5e-4 * np.abs(whole).max())


def test_sound_comes_as_soon_as_the_context_is_there():
  units = random_units(40)
  stream = make_vocoder().stream(STYLE)
  heard = [len(stream.push(units[place : place + 1])) for place in range(40)]
  assert not any(heard[: SMALL.units_ahead])
  assert sum(heard) > 0.8 * (sum(heard) + len(stream.finish()))


def test_an_empty_stream_is_silent_and_a_finished_one_is_over():
  stream = make_vocoder().stream(STYLE)
  assert len(stream.push(np.zeros(0, np.int32))) == 0
  assert len(stream.finish()) == 0
  assert len(stream.finish()) == 0
  with pytest.raises(UserError, match="after the end"):
    stream.push(np.zeros(1, np.int32))


def test_a_unit_outside_the_codebook_is_refused():
  with pytest.raises(UserError, match="unit 99"):
    make_vocoder().stream(STYLE).push(np.array([1, 99]))
