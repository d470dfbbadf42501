"""The vocoder network: shapes, independence of padding and of what lies outside its stated receptive field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import vocoder_causal, vocoder_filters
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.frames import FRAMES_PER_UNIT, SILENT, lay_out
from omni_jax.speech.istft import HOP
from omni_jax.speech.vocoder import digits_of
from tests.speech.vocoders import SMALL, make_vocoder, random_units

STYLE = Style("female", "happy", "high")
STYLES = jnp.array([STYLE.indices])


def _read(units: np.ndarray, valid: np.ndarray | None = None):
  valid = np.ones(len(units), np.float32) if valid is None else valid
  return jax.jit(type(make_vocoder()).read)(make_vocoder(), jnp.asarray(units)[None], jnp.asarray(valid)[None], STYLES)


def test_decode_gives_whole_frames_of_finite_sound_that_the_style_changes():
  vocoder, units = make_vocoder(), random_units(9)
  waveform = vocoder.decode(units, STYLE)
  assert waveform.dtype == np.float32 and waveform.ndim == 1 and len(waveform) % HOP == 0
  assert np.isfinite(waveform).all() and waveform.std() > 0
  other = vocoder.decode(units, Style("male", "sad", "low"))
  assert len(other) != len(waveform) or not np.allclose(other, waveform)


def test_padding_changes_nothing():
  units = random_units(9)
  alone = _read(units)
  padded = _read(np.pad(units, (0, 7)), np.pad(np.ones(9, np.float32), (0, 7)))
  np.testing.assert_allclose(alone.hidden[0], padded.hidden[0, :9], atol=1e-5)
  np.testing.assert_allclose(alone.durations[0], padded.durations[0, :9], atol=1e-5)
  assert not padded.durations[0, 9:].any()


def test_units_beyond_the_stated_context_change_nothing():
  units = random_units(24)
  changed = units.copy()
  place = 10
  changed[place] = (changed[place] + 1) % SMALL.codebook_size
  difference = np.abs(np.asarray(_read(units).hidden - _read(changed).hidden))[0].max(-1)
  touched = np.flatnonzero(difference > 1e-6)
  assert touched.min() == place - SMALL.units_ahead
  assert touched.max() == place + SMALL.units_behind


def test_frames_beyond_the_stated_context_change_nothing():
  vocoder, number = make_vocoder(), 24
  hidden = np.random.default_rng(0).standard_normal((1, number, SMALL.frame_width)).astype(np.float32)
  changed = hidden.copy()
  changed[0, 12] += 1.0
  layout = lay_out(jnp.ones((1, number), jnp.int32), jnp.zeros(1, jnp.int32), number)
  shape = jax.jit(lambda states: vocoder.shape(states, layout, STYLES))
  before, after = (shape(jnp.asarray(states)).harmonic for states in (hidden, changed))
  touched = np.flatnonzero(np.abs(np.asarray(before - after))[0].max(-1) > 1e-6)
  assert touched.min() == 12 - SMALL.frames_around and touched.max() == 12 + SMALL.frames_around


def test_an_imitation_has_the_true_length_and_is_silent_before_the_first_unit():
  vocoder, units = make_vocoder(), random_units(6)
  counts = jnp.full((1, 6), FRAMES_PER_UNIT)
  imitate = jax.jit(type(vocoder).imitate, static_argnames="num_frames")
  imitation = imitate(vocoder, jnp.asarray(units)[None], counts, styles=STYLES, first=jnp.array([-2]), num_frames=20)
  features = imitation.features
  assert features.f0_hz.shape == (1, 20) and features.harmonic.shape == (1, 20, SMALL.harmonic_bands)
  assert imitation.durations.shape == (1, 6)
  assert imitation.valid[0].tolist() == [0.0] * 2 + [1.0] * 18
  assert float(features.harmonic[0, :2].max()) == float(features.noise[0, :2].max()) == SILENT
  assert float(features.noise[0, 2:].min()) > SILENT


def test_the_causal_config_looks_ahead_for_less_than_a_fifth_of_a_second(tmp_path):
  """The stages that `vocoder.py` trains, with a model that looks at no later unit and clips of its context."""

  def seconds(config):
    return config.context.lookahead_seconds(unit_seconds=0.04, frame_rate=100.0)

  model = vocoder_causal.MODEL
  assert model.units_ahead == 0 and seconds(model) == pytest.approx(0.14)
  assert seconds(vocoder_filters.MODEL) == pytest.approx(0.30)
  filters, tiny = vocoder_causal.filters(tmp_path), vocoder_causal.tiny(tmp_path)
  assert filters.start == () and tiny.start[0].checkpoint == tmp_path / "stages" / filters.name
  for run in (filters, tiny, vocoder_causal.smoke(tmp_path)):
    assert run.model == model and run.data.units_ahead == 0 and run.data.margin_frames == model.frames_around


def test_digits_have_the_least_significant_first():
  digits = np.asarray(digits_of(jnp.array([[7]]), (3, 4)))[0, 0]
  assert digits.tolist() == [0, 1, 0, 0, 0, 1, 0]  # 7 = 1 + 2 * 3


def test_the_config_rebuilds_from_json():
  assert from_json(to_json(SMALL)) == SMALL


@pytest.mark.parametrize(
  ("units", "message"),
  [([], "no units"), ([0, 12], "unit 12"), ([-1], "unit -1"), ([[1]], "shape"), ([0.5], "float64")],
)
def test_wrong_units_are_refused(units, message):
  with pytest.raises(UserError, match=message):
    make_vocoder().decode(np.array(units), STYLE)
