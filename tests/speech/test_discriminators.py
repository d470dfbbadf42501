import jax
import numpy as np
import pytest

from omni_jax.convert.discriminators import period_rules, scale_rules, vits_critic_rules
from omni_jax.convert.table import export_tensors, import_leaves, tensor_shapes
from omni_jax.core import trees
from omni_jax.speech.discriminators import (
  HIFIGAN_SCALES,
  VITS_SCALE,
  CriticConfig,
  PeriodsConfig,
  ScalesConfig,
  SpectraConfig,
)
from tests.speech.drawn import drawn_model

torch = pytest.importorskip("torch")
from tests.speech.torch_critics import TorchCritic  # noqa: E402  (it needs torch)

SMALL = CriticConfig(
  scales=ScalesConfig(scales=2, layers=((4, 5, 1, 1), (8, 5, 2, 2))),
  periods=PeriodsConfig(periods=(2, 3), widths=(4, 6)),
  spectra=None,
)


def shapes_of(config):
  model = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  return {path: tuple(leaf.shape) for path, leaf in trees.flatten(model).items()}


def parameters(shapes):
  """Numbers in kernels and biases, as if lengths and directions were one array."""
  return sum(int(np.prod(shape)) for name, shape in shapes.items() if not name.endswith("weight_g"))


def test_every_layer_equals_that_of_torch():
  model = drawn_model(SMALL)
  reference = TorchCritic(SMALL.scales, SMALL.periods)
  tensors = export_tensors(vits_critic_rules(SMALL), trees.flatten(model))
  reference.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
  waveform = np.random.default_rng(0).standard_normal((2, 61)).astype(np.float32)
  with torch.no_grad():
    expected = reference(torch.from_numpy(waveform))
  made = jax.jit(lambda model, x: model(x))(model, waveform)
  assert [len(part) for part in made] == [len(part) for part in expected] == [3, 3, 3, 3]
  for part, other in zip(made, expected, strict=True):
    for ours, theirs in zip(part, other, strict=True):
      theirs = theirs.numpy()
      # A plane [B, C, T, period] is [B * period, T, C] here.
      rows = theirs.transpose(0, 3, 2, 1).reshape(ours.shape) if theirs.ndim == 4 else theirs.transpose(0, 2, 1)
      np.testing.assert_allclose(ours, rows, atol=1e-5)


def test_weights_come_back_bit_for_bit():
  rules, leaves = vits_critic_rules(SMALL), trees.flatten(drawn_model(SMALL))
  shapes = {path: leaf.shape for path, leaf in leaves.items()}
  found = import_leaves(rules, export_tensors(rules, leaves), shapes=shapes)
  assert all(np.array_equal(found[path], leaves[path]) for path in leaves)


def test_the_published_critics_have_their_sizes():
  periods = CriticConfig(scales=None, periods=PeriodsConfig(), spectra=None)
  scales = CriticConfig(scales=HIFIGAN_SCALES, periods=None, spectra=None)
  by_period = tensor_shapes(period_rules(PeriodsConfig()), shapes=shapes_of(periods))
  by_scale = tensor_shapes(scale_rules(HIFIGAN_SCALES), shapes=shapes_of(scales))
  # 41,105,770 and 29,618,821 with the lengths of kernels; the first scale of the original has none.
  assert sum(int(np.prod(shape)) for shape in by_period.values()) == 41_105_770
  lengths = sum(shape[0] for name, shape in by_scale.items() if name.startswith("discriminators.0.") and "_g" in name)
  assert sum(int(np.prod(shape)) for shape in by_scale.values()) == 29_618_821 + lengths
  vits = CriticConfig(scales=VITS_SCALE, periods=PeriodsConfig(), spectra=None)
  found = tensor_shapes(vits_critic_rules(vits), shapes=shapes_of(vits))
  assert found["discriminators.0.convs.4.weight_v"] == (1024, 4, 41)
  assert found["discriminators.1.convs.0.weight_v"] == (32, 1, 5, 1)
  assert found["discriminators.5.conv_post.weight_g"] == (1, 1, 1, 1)


def test_spectra_are_judged_frame_by_frame():
  config = CriticConfig(scales=None, periods=None, spectra=SpectraConfig(fft_sizes=(16, 32), width=3, dilations=(1, 2)))
  model = drawn_model(config)
  waveform = np.random.default_rng(0).standard_normal((2, 96)).astype(np.float32)
  judge = jax.jit(lambda model, x: model(x))
  first, second = judge(model, waveform)
  assert [layer.shape for layer in first] == [(2, 25, 9, 3), (2, 25, 5, 3), (2, 25, 3, 3), (2, 25, 3, 3), (2, 25, 3, 1)]
  assert second[-1].shape == (2, 13, 5, 1)
  # Phase is heard, not only power.
  other = judge(model, -waveform)
  assert np.abs(other[0][-1] - first[-1]).max() > 1e-3


def test_a_critic_of_nothing_is_refused():
  with pytest.raises(AssertionError, match="at least one"):
    CriticConfig(scales=None, periods=None, spectra=None)
