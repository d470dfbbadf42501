import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.table import export_tensors
from omni_jax.convert.whisper import whisper_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.whisper import (
  WHISPER_SIZES,
  WhisperConfig,
  sinusoids,
  whisper_config,
  whisper_mel,
  whisper_mel_numpy,
)
from tests.models.drawn import drawn

# Three heads of width six; 0.4 seconds.
ENCODER = EncoderConfig(width=18, depth=2, num_heads=3, mlp_dim=20, norm_eps=1e-5, norm_first=True, key_bias=False)
TINY = WhisperConfig(num_mels=8, num_positions=20, encoder=ENCODER)


def noise(*shape, seed=0):
  return (0.1 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def twin(model):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  from transformers.models.whisper.modeling_whisper import WhisperEncoder

  config, encoder = model.config, model.config.encoder
  module = WhisperEncoder(
    transformers.WhisperConfig(
      num_mel_bins=config.num_mels,
      max_source_positions=config.num_positions,
      d_model=encoder.width,
      encoder_layers=encoder.depth,
      encoder_attention_heads=encoder.num_heads,
      encoder_ffn_dim=encoder.mlp_dim,
      attn_implementation="eager",
    )
  )
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(model).items()}
  tensors = export_tensors(whisper_rules(), leaves)
  module.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
  return module.eval()


def relative(ours, theirs):
  return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def test_the_encoder_and_its_gradients_equal_transformers():
  torch = pytest.importorskip("torch")
  model = drawn(TINY)
  module = twin(model)
  mel, weights = noise(2, 40, 8), noise(2, 20, 18, seed=1)
  theirs = module(torch.from_numpy(mel).mT).last_hidden_state
  (theirs * torch.from_numpy(weights)).sum().backward()

  @jax.jit
  def run(model):
    def loss(model):
      frames = model(jnp.asarray(mel))
      return (frames * weights).sum(), frames

    return jax.grad(loss, has_aux=True)(model)

  gradients, ours = run(model)
  assert relative(ours, theirs.detach().numpy()) <= 1e-5
  gradients, layers = trees.flatten(gradients), module.layers
  expected = {
    "first.weight": module.conv1.weight.grad.permute(2, 1, 0),
    "second.bias": module.conv2.bias.grad,
    "blocks.attention.key.weight": torch.stack([layer.self_attn.k_proj.weight.grad.T for layer in layers]),
    "blocks.attention_norm.scale": torch.stack([layer.self_attn_layer_norm.weight.grad for layer in layers]),
    "blocks.feed_forward.down.weight": torch.stack([layer.fc2.weight.grad.T for layer in layers]),
    "norm.bias": module.layer_norm.bias.grad,
  }
  for path, gradient in expected.items():
    assert relative(gradients[path], gradient.numpy()) <= 1e-4, path


@pytest.mark.parametrize(("name", "samples"), [("tiny", 480_000), ("large-v3", 50_001)])
def test_mel_frames_equal_transformers(name, samples):
  transformers = pytest.importorskip("transformers")
  config = whisper_config(name)
  waveform = noise(1, samples)
  waveform[0, samples // 3 : samples // 2] = 0
  extractor = transformers.WhisperFeatureExtractor(feature_size=config.num_mels)
  theirs = extractor(waveform[0], sampling_rate=16000, return_tensors="np")["input_features"].transpose(0, 2, 1)
  assert theirs.shape == (1, 3000, config.num_mels)
  ours = jax.jit(whisper_mel, static_argnames="config")(jnp.asarray(waveform), config=config)
  for found in (ours, whisper_mel_numpy(waveform, config)):
    assert np.abs(np.asarray(found) - theirs).max() <= 1e-4 and found.dtype == np.float32


def test_positions_are_those_of_the_original():
  pytest.importorskip("torch")
  from transformers.models.whisper.modeling_whisper import sinusoids as theirs

  np.testing.assert_allclose(sinusoids(1500, 384), theirs(1500, 384).numpy(), atol=2e-4)
  positions = jax.jit(lambda: TINY.make(key=jax.random.key(0)).positions[...])()
  np.testing.assert_array_equal(positions, sinusoids(20, 18))


def test_parameters_of_the_published_sizes():
  # Of transformers' WhisperEncoder with the config of each size.
  numbers = {"tiny": 8_208_384, "base": 20_590_592, "small": 88_154_112, "large-v3": 636_968_960}
  for name, number in numbers.items():
    assert trees.count(jax.eval_shape(lambda name=name: whisper_config(name).make(key=jax.random.key(0)))) == number
  assert list(WHISPER_SIZES) == ["tiny", "base", "small", "medium", "large", "large-v2", "large-v3", "large-v3-turbo"]
  assert all(config.samples == 480_000 for config in WHISPER_SIZES.values())


def test_frames_that_belong_to_a_recording():
  small = whisper_config("small")
  assert [int(small.num_frames(samples)) for samples in (1, 319, 320, 16_000, 480_000)] == [1, 1, 2, 51, 1500]


def test_recordings_are_heard_one_by_one():
  model = drawn(TINY)
  waveforms = [noise(1), noise(3000, seed=1), np.zeros(500), noise(TINY.samples, seed=2)]
  found = model.encode_batch(waveforms)
  assert [len(frames) for frames in found] == [1, 10, 2, 20]
  assert all(np.isfinite(frames).all() for frames in found)
  whole = np.zeros((1, TINY.samples), np.float32)
  whole[0, :3000] = waveforms[1]
  expected = jax.jit(lambda model, waveform: model.features(waveform))(model, jnp.asarray(whole))
  np.testing.assert_allclose(found[1], expected[0, :10], atol=1e-4)


@pytest.mark.parametrize(
  "waveform",
  [np.zeros(0), np.zeros((2, 900)), np.array([0.0, np.nan]), np.zeros(TINY.samples + 1)],
  ids=["no sample", "stereo", "not a number", "too long"],
)
def test_bad_sound_is_told(waveform):
  with pytest.raises(UserError, match="Whisper"):
    drawn(TINY).encode_batch([waveform])
  if waveform.ndim == 1:
    with pytest.raises(UserError, match="Whisper"):
      whisper_mel_numpy(waveform[None], TINY)


def test_what_does_not_fit_is_told():
  with pytest.raises(UserError, match=r"no Whisper 'huge'(.|\n)*tiny, base"):
    whisper_config("huge")
  with pytest.raises(UserError, match=r"41 frames(.|\n)*from 2 to 40"):
    drawn(TINY)(jnp.zeros((1, 41, 8)))
  with pytest.raises(UserError, match="norm first"):
    dataclasses.replace(TINY, encoder=dataclasses.replace(ENCODER, norm_first=False))
