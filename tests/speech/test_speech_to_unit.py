import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from omni_jax.convert.speech_to_unit import export_speech_to_unit
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import load_audio
from omni_jax.speech import long_recordings, unit_reader
from omni_jax.speech.interface import SpeechTokenizer
from omni_jax.speech.long_recordings import plan_windows
from omni_jax.speech.speech_to_unit import EMOVA_SPEECH_TO_UNIT
from tests.speech.spirals import TINY, drawn, recordings, with_windows
from tests.speech.torch_spiral import TorchSpeechToUnit


@pytest.fixture(scope="module")
def model():
  return drawn()


@pytest.fixture(scope="module")
def twin(model):
  """The torch model with the same weights, by name, strictly."""
  tensors = export_speech_to_unit(TINY, trees.flatten(model))
  twin = TorchSpeechToUnit(TINY)
  twin.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=True)
  return twin


@jax.jit
def _parts(model, features, num_frames):
  hidden = model.hidden(features, num_frames)
  places = model.places(hidden)
  logits = model.reader(TINY.quantizer.quantise(places), -(-num_frames // 4))
  return {"hidden": hidden, "places": places, "logits": logits}


def test_the_released_model_has_its_size():
  shapes = jax.eval_shape(lambda: EMOVA_SPEECH_TO_UNIT.make(key=jax.random.key(0)))
  sizes = {path: leaf.size for path, leaf in trees.flatten(shapes).items()}
  parts = ("encoder", "bottleneck", "reader")
  counts = [sum(size for path, size in sizes.items() if path.startswith(part)) for part in parts]
  assert counts == [90_617_216, 3_076, 4_068_081] and sum(counts) == 94_688_373


def test_rates(model):
  tokenizer: SpeechTokenizer = model
  assert (tokenizer.sample_rate, tokenizer.frame_rate) == (16000, 25)
  assert (tokenizer.num_codebooks, tokenizer.codebook_size) == (1, 4096)


@pytest.mark.parametrize("samples", [700, 16000, 20811])
def test_every_part_equals_torch(model, twin, samples):
  (waveform,) = recordings(samples)
  expected = twin(waveform)
  # From torch's own features on, so that only the part itself is compared.
  num_frames = len(expected["features"])
  given = np.pad(expected["features"], ((0, 400 - num_frames), (0, 0)))[None]
  found = _parts(model, given, np.array([num_frames], np.int32))
  for name, output in found.items():
    scale = np.abs(expected[name]).max()
    np.testing.assert_allclose(output[0, : -(-samples // 640)], expected[name], atol=1e-5 * scale, err_msg=name)
  np.testing.assert_array_equal(model.encode(waveform), expected["units"])


def test_units_of_twenty_sounds_equal_those_of_torch(model, twin):
  lengths = np.random.default_rng(1).integers(4000, 16000, 20)
  waveforms = recordings(*lengths, seed=1)
  encoded = model.encode_batch(waveforms)
  assert len({unit for units in encoded for unit in units.tolist()}) > 100
  for waveform, units in zip(waveforms, encoded, strict=True):
    np.testing.assert_array_equal(units, twin(waveform)["units"])


@pytest.mark.parametrize("samples", [257, 640, 641, 15999, 16001])
def test_one_unit_for_each_forty_milliseconds_begun(model, samples):
  units = model.encode(recordings(samples)[0])
  assert units.shape == (-(-samples // 640),) and units.dtype == np.int32
  assert units.min() >= 0 and units.max() < 4096


def test_a_padded_batch_gives_the_units_of_each_recording_alone(model):
  waveforms = recordings(9000, 16001, 5000, 24000, 400)
  for units, waveform in zip(model.encode_batch(waveforms), waveforms, strict=True):
    np.testing.assert_array_equal(units, model.encode(waveform))


def test_units_last_as_long_as_they_were_read(model):
  units = [np.array([3, 3, 1, 1, 1, 3], np.int32), np.array([5], np.int32)]
  frames = model.time_batch(recordings(6 * 640, 640), units)
  assert [own.tolist() for own in frames] == [[8, 12, 4], [4]] and frames[0].dtype == np.int32


def test_a_long_recording_is_read_in_windows_of_bounded_size(monkeypatch):
  config = with_windows(whole_seconds=1.0, context_seconds=0.2)
  model = drawn(config)
  (waveform,) = recordings(16000 * 7 + 333)
  seen = []
  whole_map = long_recordings.map_waveforms

  def watched(run, waveforms, **options):
    seen.extend(len(waveform) for waveform in waveforms)
    return whole_map(run, waveforms, **options)

  monkeypatch.setattr(long_recordings, "map_waveforms", watched)
  units = model.encode(waveform)
  assert len(units) == -(-len(waveform) // 640) and max(seen) <= 16000
  windows = plan_windows(len(waveform), unit=640, whole=25, context=5)
  assert len(seen) == len(windows)
  read = [model.encode(waveform[window.start : window.stop])[window.kept] for window in windows]
  np.testing.assert_array_equal(units, np.concatenate(read))


def test_silence_has_units_and_they_are_always_the_same(model):
  first, again = model.encode(np.zeros(16000, np.float32)), model.encode_batch([np.zeros(16000, np.float32)])[0]
  np.testing.assert_array_equal(first, again)
  assert len(first) == 25


@pytest.mark.parametrize(
  ("waveform", "words"),
  [
    (np.zeros(0, np.float32), r"shape \(0,\)"),
    (np.zeros(1, np.float32), r"shape \(1,\)"),
    (np.zeros(256, np.float32), "at least 257"),
    (np.zeros((2, 16000), np.float32), "one channel"),
    (np.zeros((16000, 2), np.float32), "one channel"),
    (np.full(16000, np.nan, np.float32), "16000 samples that are not finite"),
    (np.array([0.1] * 999 + [np.inf], np.float32), "1 samples that are not finite"),
  ],
)
def test_what_is_no_recording_is_refused_by_its_number(model, waveform, words):
  good = recordings(4000)[0]
  with pytest.raises(UserError, match=words) as error:
    model.encode_batch([good, waveform])
  assert "recording 1" in error.value.where


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_stereo_files_of_any_rate_have_their_units(model, rate, tmp_path):
  import soundfile

  seconds = 1.3
  time = np.arange(round(seconds * rate)) / rate
  both = 0.5 * np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 880 * time)], axis=1)
  soundfile.write(tmp_path / "both.wav", both, rate)
  units = model.encode(load_audio(tmp_path / "both.wav"))
  assert abs(len(units) - 33) <= 1  # 1.3 s in steps of 40 ms, but for a sample of the resampler


def test_dropout_changes_training_and_only_training(model):
  (waveform,) = recordings(8000)
  rows, lengths = jnp.asarray(waveform)[None], jnp.array([8000])
  frames = TINY.mel.num_frames(lengths)
  hidden = jax.jit(lambda model, key: model.hidden(model.features(rows, lengths), frames, key=key))
  plain, first, again, other = (
    np.asarray(hidden(model, key)) for key in (None, jax.random.key(0), jax.random.key(0), jax.random.key(1))
  )
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-3 and np.abs(first - plain).max() > 1e-3


def test_every_parameter_but_those_the_units_do_not_need_learns(model):
  (waveform,) = recordings(8000)

  def total(model):
    lengths = jnp.array([8000])
    codes = model.codes(jnp.asarray(waveform)[None], lengths)
    return jnp.square(model.reader(codes, model.num_units(lengths))).sum()

  gradients = trees.flatten(jax.jit(jax.grad(total))(model))
  # A key's bias moves all scores of a query alike.
  learning = {path: leaf for path, leaf in gradients.items() if not path.endswith("key.bias")}
  assert all(float(jnp.abs(gradient).max()) > 0 for gradient in learning.values())


def test_phones_are_read_from_each_waveform(model):
  phones = model.phones_batch(recordings(16000, 8000))
  assert len(phones) == 2 and all(0 <= phone < 7 for one in phones for phone in one)


@pytest.mark.parametrize("seconds", [1.0, 7.0])
def test_long_recordings_are_read_alone_for_phones_as_for_units(model, seconds, monkeypatch):
  rows = []

  def logits():
    def read(model, waveform, samples):
      rows.append(len(waveform))
      return np.zeros((len(waveform), int(model.num_units(waveform.shape[1])), 3)), model.num_units(samples)

    return read

  monkeypatch.setattr(unit_reader, "_jit_phone_logits", logits)
  assert model.phones_batch([np.zeros(int(seconds * 16000), np.float32)] * 2) == [[0], [0]]
  assert rows == ([16] if seconds < model.together_seconds else [1, 1])
