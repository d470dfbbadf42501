import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.snac import snac_rules
from omni_jax.convert.table import export_tensors
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.nn.weight_norm import fold_model
from omni_jax.speech.snac import SNAC_24KHZ
from omni_jax.speech.source import noise_table
from tests.speech.drawn import drawn_model
from tests.speech.parts import CODEC as SMALL
from tests.speech.parts import codec

torch = pytest.importorskip("torch")
from tests.speech.torch_snac import TorchSNAC  # noqa: E402  (it needs torch)

DENSE = dataclasses.replace(SMALL, depthwise=False, noise=False)


def recording(num_samples, seed=0):
  return (0.3 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def codes_of(num_frames, seed=0):
  return np.random.default_rng(seed).integers(0, SMALL.codebook_size, (num_frames, 7)).astype(np.int32)


def in_torch(model):
  reference = TorchSNAC(model.config)
  tensors = export_tensors(snac_rules(model.config), trees.flatten(model))
  reference.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
  return reference


def noises(config, num_frames):
  """What the stages of the decoder add, from the first sample on."""
  length, found = num_frames * config.strides[0], []
  for number, rate in enumerate(config.decoder_rates):
    length *= rate
    found.append(torch.from_numpy(np.roll(noise_table(), -number * 16411)[:length].copy())[None, None])
  return found


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["released-kind", "dense"])
def test_codes_and_waveform_equal_those_of_torch(config):
  model, waveform = codec(config), recording(5 * config.hop - 7)
  reference = in_torch(model)
  codes = model.encode(waveform)
  with torch.no_grad():
    padded = torch.from_numpy(np.pad(waveform, (0, 7)))[None]
    expected = reference.encode(padded)
    sound = reference.decode(expected, noises(config, 5))[0].numpy()
  assert codes.shape == (5, 7)
  for ours, theirs in zip(model.by_quantizer(codes), expected, strict=True):
    np.testing.assert_array_equal(ours, theirs[0])
  assert len(set(codes[:, 0])) > 1 and np.abs(sound).max() > 0.05
  np.testing.assert_allclose(model.decode(codes), sound, atol=1e-5)


def test_the_order_of_a_row_is_that_of_mini_omni():
  assert SNAC_24KHZ.columns == ((0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (2, 2), (2, 3))
  slow, middle, fast = codec().by_quantizer(np.array([[1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14]]))
  assert slow.tolist() == [1, 8]
  assert middle.tolist() == [2, 5, 9, 12]
  assert fast.tolist() == [3, 4, 6, 7, 10, 11, 13, 14]


@pytest.mark.parametrize("chunk_frames", [1, 4, 7])
def test_a_stream_equals_the_whole(chunk_frames):
  model, codes = codec(), codes_of(30)
  whole = model.decode(codes)
  stream = model.stream(chunk_frames=chunk_frames)
  pieces = [stream.push(codes[:1]), stream.push(codes[1:20]), stream.push(codes[20:])]
  assert sum(map(len, pieces)) > len(whole) // 3
  pieces.append(stream.finish())
  made = np.concatenate(pieces)
  assert made.shape == whole.shape == (30 * model.hop,)
  np.testing.assert_allclose(made, whole, atol=1e-5)
  assert len(stream.finish()) == 0


def test_less_context_than_stated_would_be_heard(monkeypatch):
  # Depthwise kernels of the released kind, whose residual units reach 39 samples at every rate.
  model, codes = codec(), codes_of(30)
  with monkeypatch.context() as patch:
    patch.setattr(type(SMALL), "decoder_context", SMALL.decoder_context - 1)
    stream = model.stream(chunk_frames=4)
  assert np.abs(np.concatenate([stream.push(codes), stream.finish()]) - model.decode(codes)).max() > 1e-5


def test_long_recordings_in_windows_equal_one_window(monkeypatch):
  model, waveform = codec(), recording(60 * SMALL.hop)
  codes = model.encode(waveform)
  whole = model.decode(codes)
  monkeypatch.setattr("omni_jax.speech.snac._LARGEST_WINDOW", 32)
  np.testing.assert_array_equal(model.encode(waveform), codes)
  np.testing.assert_allclose(model.decode(codes), whole, atol=1e-5)


def test_the_context_of_the_released_codec():
  assert (SNAC_24KHZ.hop, SNAC_24KHZ.latent_width, SNAC_24KHZ.decoder_context) == (2048, 768, 3)
  assert SNAC_24KHZ.decoder_ahead == 4757
  model = jax.eval_shape(lambda: SNAC_24KHZ.make(key=jax.random.key(0)))
  assert model.num_codebooks == 7 and model.frame_rate == 24000 / 2048


def test_folded_kernels_make_the_same_sound():
  model, codes = codec(), codes_of(3)
  folded = fold_model(model, into=drawn_model(dataclasses.replace(SMALL, normed=False), seed=3))
  np.testing.assert_allclose(folded.decode(codes), model.decode(codes), atol=1e-5)


def test_copying_is_encoding_and_decoding_and_all_parts_learn():
  model, waveform = codec(), recording(3 * SMALL.hop)

  def loss(model):
    copied = model.copy(jnp.asarray(waveform)[None], first=jnp.zeros(1, jnp.int32))
    return jnp.square(copied.waveform - waveform).mean() + copied.codebook + 0.25 * copied.commitment, copied

  gradient, copied = jax.jit(jax.grad(loss, has_aux=True))(model)
  codes = model.encode(waveform)
  np.testing.assert_array_equal(copied.codes[0], codes)
  np.testing.assert_allclose(copied.waveform[0], model.decode(codes), atol=1e-5)
  still = [path for path, leaf in trees.flatten(gradient).items() if not np.asarray(leaf).any()]
  assert still == []


def test_the_quantiser_passes_gradients_as_if_nothing_was_rounded():
  quantizer = codec().quantizers[2]
  latents = jax.random.normal(jax.random.key(0), (1, 4, SMALL.latent_width))
  through = jax.grad(lambda x: quantizer(x).latents.sum())(latents)
  straight = jax.grad(lambda x: quantizer.output(quantizer.input(x)).sum())(latents)
  np.testing.assert_allclose(through, straight, atol=1e-6)


@pytest.mark.parametrize(
  ("ask", "what"),
  [
    (lambda model: model.encode(np.zeros(0)), "shape \\(0,\\)"),
    (lambda model: model.encode(np.zeros((2, 99))), "shape \\(2, 99\\)"),
    (lambda model: model.encode(np.array([0.1, np.nan])), "not finite"),
    (lambda model: model.decode(np.zeros((0, 7), int)), "no codes"),
    (lambda model: model.decode(np.zeros((3, 6), int)), "shape \\(3, 6\\)"),
    (lambda model: model.decode(np.zeros((3, 7))), "float64"),
    (lambda model: model.decode(np.full((1, 7), 16)), "code 16"),
    (lambda model: model.decode(np.full((1, 7), -1)), "code -1"),
    (lambda model: model.stream(chunk_frames=0), "chunks of 0"),
    (lambda model: (stream := model.stream(), stream.finish(), stream.push(codes_of(1))), "after the end"),
  ],
)
def test_bad_input_is_told(ask, what):
  with pytest.raises(UserError, match=what):
    ask(codec())


def test_one_sample_and_silence_have_codes():
  model = codec()
  assert model.encode(np.array([0.5])).shape == (1, 7)
  assert np.isfinite(model.decode(model.encode(np.zeros(100)))).all()
