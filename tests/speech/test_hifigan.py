import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.hifigan import hifigan_rules
from omni_jax.convert.table import export_tensors, import_leaves
from omni_jax.core import trees
from omni_jax.nn.weight_norm import fold_model
from omni_jax.speech.hifigan import HiFiGANConfig
from tests.speech.drawn import drawn_model

torch = pytest.importorskip("torch")
from tests.speech.torch_hifigan import TorchHiFiGAN  # noqa: E402  (it needs torch)

UNITS = HiFiGANConfig(
  inputs=6,
  width=16,
  rates=(5, 2),
  taps=(11, 4),
  residual="1",
  block_taps=(3, 5),
  block_dilations=((1, 3), (2,)),
)
VITS = dataclasses.replace(
  UNITS, rates=(4, 2), taps=(8, 4), residual="2", condition=5, normed_ends=False, last_bias=False
)


def in_torch(model):
  reference = TorchHiFiGAN(model.config)
  tensors = export_tensors(hifigan_rules(model.config), trees.flatten(model))
  reference.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
  return reference


speak = jax.jit(lambda model, x, condition, valid=None: model(x, valid, condition=condition))


def frames(config, num_frames, batch=2):
  x = np.random.default_rng(0).standard_normal((batch, num_frames, config.inputs)).astype(np.float32)
  g = np.random.default_rng(1).standard_normal((batch, config.condition)).astype(np.float32)
  return x, (g if config.condition else None)


@pytest.mark.parametrize("config", [UNITS, VITS], ids=["units", "vits"])
def test_waveform_and_gradient_equal_those_of_torch(config):
  model = drawn_model(config)
  x, condition = frames(config, 9)
  reference = in_torch(model)

  given = None if condition is None else torch.from_numpy(condition)
  expected = reference(torch.from_numpy(x.transpose(0, 2, 1).copy()), given)
  expected.square().sum().backward()
  made = speak(model, x, condition)
  gradient = jax.jit(jax.grad(lambda model: jnp.square(speak(model, x, condition)).sum()))(model)

  assert made.shape == (2, 9 * config.hop)
  assert np.abs(np.asarray(made)).max() > 0.05
  np.testing.assert_allclose(made, expected.detach(), atol=1e-5)
  ours = export_tensors(hifigan_rules(config), trees.flatten(gradient))
  theirs = {name: parameter.grad.numpy() for name, parameter in reference.named_parameters()}
  assert set(ours) == set(theirs)
  for name, wanted in theirs.items():
    np.testing.assert_allclose(ours[name], wanted, atol=1e-4 * max(1.0, np.abs(wanted).max()), err_msg=name)


def test_the_conditioned_generator_equals_that_of_transformers():
  transformers = pytest.importorskip("transformers")
  vits = pytest.importorskip("transformers.models.vits.modeling_vits")
  config = dataclasses.replace(VITS, residual="1")
  theirs = transformers.VitsConfig(
    flow_size=config.inputs,
    upsample_initial_channel=config.width,
    upsample_rates=list(config.rates),
    upsample_kernel_sizes=list(config.taps),
    resblock_kernel_sizes=list(config.block_taps),
    resblock_dilation_sizes=[list(each) for each in config.block_dilations],
    speaker_embedding_size=config.condition,
  )
  reference = vits.VitsHifiGan(theirs)
  folded = dataclasses.replace(config, normed=False)
  model = fold_model(drawn_model(config), into=jax.eval_shape(lambda: folded.make(key=jax.random.key(0))))
  tensors = export_tensors(hifigan_rules(folded, up="upsampler"), trees.flatten(model))
  reference.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
  x, condition = frames(config, 7)
  with torch.no_grad():
    expected = reference(torch.from_numpy(x.transpose(0, 2, 1).copy()), torch.from_numpy(condition)[..., None])
  np.testing.assert_allclose(speak(model, x, condition), expected[:, 0], atol=1e-5)


@pytest.mark.parametrize("config", [UNITS, VITS], ids=["units", "vits"])
def test_weights_come_back_bit_for_bit(config):
  leaves = trees.flatten(drawn_model(config))
  rules = hifigan_rules(config)
  found = import_leaves(
    rules, export_tensors(rules, leaves), shapes={path: leaf.shape for path, leaf in leaves.items()}
  )
  assert all(np.array_equal(found[path], leaves[path]) for path in leaves)


def test_folded_kernels_make_the_same_sound():
  model = drawn_model(UNITS)
  folded = fold_model(model, into=drawn_model(dataclasses.replace(UNITS, normed=False), seed=5))
  x, _ = frames(UNITS, 6)
  assert not [path for path in trees.paths(folded) if path.endswith(("gain", "direction"))]
  np.testing.assert_allclose(speak(folded, x, None), speak(model, x, None), atol=1e-6)


@pytest.mark.parametrize("config", [UNITS, VITS], ids=["units", "vits"])
def test_padding_is_not_heard(config):
  model = drawn_model(config)
  x, condition = frames(config, 8)
  padded = np.concatenate([np.full((2, 3, config.inputs), 7.0, np.float32), x], axis=1)
  padded = np.concatenate([padded, np.full((2, 4, config.inputs), -7.0, np.float32)], axis=1)
  valid = np.pad(np.ones((2, 8), np.float32), ((0, 0), (3, 4)))
  alone = speak(model, x, condition)
  made = speak(model, padded, condition, valid)
  np.testing.assert_allclose(made[:, 3 * config.hop : 11 * config.hop], alone, atol=1e-6)
  assert not np.asarray(made[:, : 3 * config.hop]).any()


@pytest.mark.parametrize("config", [UNITS, VITS], ids=["units", "vits"])
def test_a_frame_is_heard_inside_its_context_only(config):
  model = drawn_model(config)
  x, condition = frames(config, 41, batch=1)
  condition = None if condition is None else condition[:1]
  moved = x.copy()
  moved[:, 20] += 1.0
  difference = np.abs(speak(model, moved, condition) - speak(model, x, condition))[0]
  touched = np.flatnonzero(difference.reshape(41, config.hop).max(-1) > 0)
  # The bound is reached on at least one side: a smaller context would be wrong.
  assert touched.min() >= 20 - config.context and touched.max() <= 20 + config.context
  assert max(20 - touched.min(), touched.max() - 20) == config.context


def test_the_context_of_released_shapes():
  blocks = {"residual": "1", "block_taps": (3, 7, 11), "block_dilations": ((1, 3, 5),) * 3}
  emova = HiFiGANConfig(inputs=192, width=512, rates=(8, 8, 2, 2), taps=(16, 16, 4, 4), **blocks)
  units = HiFiGANConfig(inputs=128, width=512, rates=(5, 4, 4, 2, 2), taps=(11, 8, 8, 4, 4), **blocks)
  assert (emova.hop, emova.context) == (256, 13)
  assert (units.hop, units.context) == (320, 21)
