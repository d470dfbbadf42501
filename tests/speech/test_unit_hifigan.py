import dataclasses

import numpy as np
import pytest

from omni_jax.convert.table import export_tensors
from omni_jax.convert.unit_hifigan import unit_hifigan_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from tests.speech.drawn import drawn_model
from tests.speech.parts import ONE_VOICE, SPEAKERS
from tests.speech.parts import unit_hifigan as vocoder

torch = pytest.importorskip("torch")
from tests.speech.torch_unit_hifigan import TorchUnitHiFiGAN  # noqa: E402  (it needs torch)


def reduced(num_units, seed=0):
  return np.random.default_rng(seed).integers(0, 30, num_units).astype(np.int32)


@pytest.mark.parametrize(("config", "speaker"), [(ONE_VOICE, None), (SPEAKERS, 2)], ids=["one-voice", "speakers"])
def test_durations_and_waveform_equal_those_of_torch(config, speaker):
  model, units = vocoder(config), reduced(23)
  reference = TorchUnitHiFiGAN(config)
  tensors = export_tensors(unit_hifigan_rules(config), trees.flatten(model))
  reference.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
  with torch.no_grad():
    counts = reference.counts(torch.from_numpy(units)[None])[0].numpy()
    expected = reference.speak(torch.from_numpy(units)[None], speaker)[0].numpy()
  assert len(set(counts)) > 2
  made = model.decode(units, speaker=speaker or 0)
  assert made.shape == (counts.sum() * model.hop,)
  np.testing.assert_allclose(made, expected, atol=1e-5)


def test_speakers_sound_different():
  model, units = vocoder(SPEAKERS), reduced(5)
  assert np.abs(model.decode(units, speaker=0) - model.decode(units, speaker=1)).max() > 1e-3
  np.testing.assert_array_equal(model.decode(units, "1"), model.decode(units, speaker=1))


@pytest.mark.parametrize("chunk_frames", [1, 4, 16])
def test_a_stream_equals_the_whole(chunk_frames):
  model, units = vocoder(ONE_VOICE), reduced(40)
  whole = model.decode(units)
  stream, start, pieces = model.stream(chunk_frames=chunk_frames), 0, []
  for size in (1, 7, 0, 20, 2, 10):
    pieces.append(stream.push(units[start : start + size]))
    start += size
  heard_before_the_end = sum(map(len, pieces))
  pieces.append(stream.finish())
  assert start == len(units) and heard_before_the_end > len(whole) // 2
  made = np.concatenate(pieces)
  assert made.shape == whole.shape
  np.testing.assert_allclose(made, whole, atol=1e-5)
  assert len(stream.finish()) == 0


def test_less_context_than_stated_would_be_heard(monkeypatch):
  model, units = vocoder(ONE_VOICE), reduced(40)
  context = ONE_VOICE.generator.context
  assert (model.context.frames_before, model.context.frames_after, model.context.units_after) == (context, context, 2)
  with monkeypatch.context() as patch:
    patch.setattr(type(ONE_VOICE.generator), "context", context - 1)
    stream = model.stream(chunk_frames=4)
  made = np.concatenate([stream.push(units), stream.finish()])
  assert np.abs(made - model.decode(units)).max() > 1e-5


def test_a_long_utterance_in_windows_equals_one_window(monkeypatch):
  model, units = vocoder(ONE_VOICE), reduced(40)
  whole = model.decode(units)
  monkeypatch.setattr("omni_jax.speech.unit_hifigan._LARGEST_WINDOW", 32)
  np.testing.assert_allclose(model.decode(units), whole, atol=1e-5)


def test_given_durations_are_kept_and_without_a_predictor_a_unit_is_a_frame():
  model = vocoder(ONE_VOICE)
  units, counts = np.array([3, 4, 5]), np.array([2, 0, 1])
  timed = model.decode_timed(units, counts)
  plain = dataclasses.replace(ONE_VOICE, duration=None)
  frames = drawn_model(plain)
  assert timed.shape == (3 * model.hop,)
  np.testing.assert_allclose(model.decode_timed(np.array([3, 3, 5]), np.ones(3, int)), timed, atol=1e-6)
  assert frames.decode(units).shape == (3 * model.hop,)


def test_the_interface_is_told_in_hertz():
  model = vocoder(ONE_VOICE)
  assert (model.sample_rate, model.hop, model.frame_rate, model.num_codebooks) == (1000, 10, 100, 1)


@pytest.mark.parametrize(
  ("ask", "what"),
  [
    (lambda model: model.decode(np.array([3, 30])), "unit 30"),
    (lambda model: model.decode(np.array([-1])), "unit -1"),
    (lambda model: model.decode(np.zeros(0, int)), "no units"),
    (lambda model: model.decode(np.array([0.5])), "type float64"),
    (lambda model: model.decode(np.array([3]), speaker=1), "speaker 1"),
    (lambda model: model.decode(np.array([3]), "1"), "speaker 1"),
    (lambda model: model.decode_timed(np.array([3, 4]), np.array([0, 0])), "0 frames together"),
    (lambda model: model.decode_timed(np.array([3, 4]), np.array([2, -1])), "from -1"),
    (lambda model: model.stream(chunk_frames=0), "chunks of 0 frames"),
    (lambda model: model.stream().push(np.array([99])), "unit 99"),
    (lambda model: (stream := model.stream(), stream.finish(), stream.push(np.array([1]))), "after the end"),
  ],
)
def test_bad_input_is_told(ask, what):
  with pytest.raises(UserError, match=what):
    ask(vocoder(ONE_VOICE))


def test_speakers_may_be_the_styles():
  config = dataclasses.replace(SPEAKERS, speakers=len(ALL_STYLES), styled=True)
  model, units = vocoder(config), reduced(6)
  style = Style.parse("male-sad-high")
  asked = model.decode(units, style)
  np.testing.assert_array_equal(asked, model.decode(units, speaker=ALL_STYLES.index(style)))
  assert np.abs(asked - model.decode(units, ALL_STYLES[0])).max() > 1e-3
  stream = model.stream(style, chunk_frames=4)
  pieces = np.concatenate([stream.push(units), stream.finish()])
  np.testing.assert_allclose(pieces, asked, atol=1e-5)
  assert model.seconds([units, units[:0]], [style, style]) == [len(asked) / 1000, 0.0]
  with pytest.raises(AssertionError, match="3 speakers are not the styles"):
    dataclasses.replace(SPEAKERS, styled=True)
