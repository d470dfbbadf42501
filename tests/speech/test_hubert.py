import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.hubert import HUBERT_BASE, HUBERT_LARGE, HubertConfig
from tests.speech import huberts


def features(model, waveform, samples, layers=(None,)):
  """Returns the frames of each layer, from one compiled function."""
  run = jax.jit(lambda model, waveform, samples: [model.features(waveform, samples, layer=layer) for layer in layers])
  found = [np.asarray(frames) for frames in run(model, jnp.asarray(waveform), jnp.asarray(samples, jnp.int32))]
  return found if len(found) > 1 else found[0]


def noise(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def relative(ours, theirs):
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", huberts.CONFIGS)
def test_layers_equal_transformers(name):
  torch = pytest.importorskip("torch")
  config = dataclasses.replace(huberts.CONFIGS[name], input_norm_eps=None)
  model = huberts.hubert(config)
  waveform = noise(2, 700)
  with torch.no_grad():
    theirs = huberts.twin(model)(torch.from_numpy(waveform), output_hidden_states=True)
  hidden = [layer.numpy() for layer in theirs.hidden_states]
  assert len(hidden) == config.encoder.depth + 1
  ours = features(model, waveform, [700, 700], (*range(len(hidden)), None))
  for frames, expected in zip(ours, [*hidden, theirs.last_hidden_state.numpy()], strict=True):
    assert relative(frames, expected) <= 1e-5


@pytest.mark.parametrize("name", huberts.CONFIGS)
def test_gradients_equal_transformers(name):
  torch = pytest.importorskip("torch")
  config = dataclasses.replace(huberts.CONFIGS[name], input_norm_eps=None)
  config = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, depth=1))
  model = huberts.hubert(config)
  module = huberts.twin(model)
  waveform, weights = noise(1, 400), noise(1, config.num_frames(400), config.encoder.width, seed=1)
  (module(torch.from_numpy(waveform)).last_hidden_state * torch.from_numpy(weights)).sum().backward()
  samples = jnp.array([400], jnp.int32)
  loss = jax.jit(jax.grad(lambda model: (model.features(jnp.asarray(waveform), samples) * weights).sum()))
  ours = trees.flatten(loss(model))
  theirs = {
    "stem.0.convolution.weight": module.feature_extractor.conv_layers[0].conv.weight.grad.permute(2, 1, 0),
    "stem.0.norm.scale": module.feature_extractor.conv_layers[0].layer_norm.weight.grad,
    "projection.weight": module.feature_projection.projection.weight.grad.T,
    "positions.bias": module.encoder.pos_conv_embed.conv.bias.grad,
    "blocks.attention.key.weight": module.encoder.layers[0].attention.k_proj.weight.grad.T[None],
    "blocks.attention_norm.scale": module.encoder.layers[0].layer_norm.weight.grad[None],
    "blocks.feed_forward.up.weight": module.encoder.layers[0].feed_forward.intermediate_dense.weight.grad.T[None],
  }
  for path, expected in theirs.items():
    assert relative(np.asarray(ours[path]), expected.numpy()) <= 1e-4, path


@pytest.mark.parametrize("name", huberts.CONFIGS)
def test_a_padded_batch_gives_what_each_recording_gives_alone(name):
  model = huberts.hubert(huberts.CONFIGS[name])
  config = model.config
  lengths = np.array([500, 331], np.int32)
  waveform = noise(2, 500)
  waveform[1, 331:] = np.nan  # what is past the end is not looked at
  batch = features(model, waveform, lengths, (1, None))
  alone = features(model, waveform[1:, :331], [331], (1, None))
  valid = int(config.num_frames(331))
  for rows, single in zip(batch, alone, strict=True):
    assert single.shape[1] == valid and relative(rows[1, :valid], single[0]) <= 1e-5
    assert not rows[1, valid:].any()


def test_the_waveform_is_normalised_where_the_config_says_so():
  model = huberts.hubert(huberts.LARGE)
  waveform = noise(1, 500)
  same = features(model, 7 * waveform + 2, [500])
  np.testing.assert_allclose(features(model, waveform, [500]), same, atol=1e-3)
  plain = huberts.hubert(dataclasses.replace(huberts.LARGE, input_norm_eps=None))
  standard = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-5)
  np.testing.assert_allclose(features(model, waveform, [500]), features(plain, standard, [500]), atol=1e-4)


def test_frames_of_the_published_sizes():
  for config in (HUBERT_BASE, HUBERT_LARGE):
    assert (config.hop_samples, config.window_samples) == (320, 400)
    assert [config.num_frames(samples) for samples in (0, 1, 399, 400, 719, 720, 16000, 160000)] == [
      *(0, 0, 0, 1, 1, 2, 49, 499),
    ]


def test_parameters_of_the_published_sizes():
  # torch counts the weight norm of the positions as two: 128 lengths more.
  for config, number in ((HUBERT_BASE, 94_371_712 - 128), (HUBERT_LARGE, 315_438_720 - 128)):
    assert trees.count(jax.eval_shape(lambda config=config: config.make(key=jax.random.key(0)))) == number


def test_silence_and_less_than_a_window_give_finite_frames():
  model = huberts.hubert(huberts.BASE)
  silence = features(model, np.zeros((2, 200), np.float32), [200, 1])
  assert np.isfinite(silence).all() and not silence[1].any()


def test_frames_do_not_hear_a_masked_one():
  model = huberts.hubert(huberts.BASE)
  projected = jnp.asarray(noise(1, 9, 18))
  masked = jnp.zeros((1, 9), bool).at[0, 4].set(True)
  changed = projected.at[0, 4].add(1.0)
  np.testing.assert_array_equal(model.mask(projected, masked), model.mask(changed, masked))
  assert not np.array_equal(model.mask(projected, ~masked), model.mask(changed, ~masked))


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there_is_told(layer):
  with pytest.raises(UserError, match=f"layer {layer}(.|\n)*to 2"):
    features(huberts.hubert(huberts.BASE), noise(1, 300), [300], (layer,))


def test_dimensions_that_do_not_fit_are_told():
  with pytest.raises(UserError, match="groups that share the width"):
    dataclasses.replace(huberts.BASE, position_groups=5)
  with pytest.raises(UserError, match="heads share the width"):
    EncoderConfig(width=18, depth=1, num_heads=4, mlp_dim=8, norm_eps=1e-5, norm_first=True)
  assert isinstance(huberts.BASE, HubertConfig)
