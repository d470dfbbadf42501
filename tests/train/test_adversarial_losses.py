import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.discriminators import vits_critic_rules
from omni_jax.convert.table import export_tensors
from omni_jax.core import trees
from omni_jax.speech.discriminators import CriticConfig, PeriodsConfig, ScalesConfig
from omni_jax.speech.mel import MelConfig, filterbank
from omni_jax.speech.spectrogram import MelDistance, SpectrumConfig
from omni_jax.train.adversarial_losses import AdversarialLosses
from tests.speech.drawn import drawn_model

torch = pytest.importorskip("torch")
from tests.speech import torch_critics  # noqa: E402  (it needs torch)

CRITIC = CriticConfig(
  scales=ScalesConfig(scales=2, layers=((4, 5, 1, 1), (8, 5, 2, 2))),
  periods=PeriodsConfig(periods=(3,), widths=(4, 6)),
  spectra=None,
)
SPECTRUM = SpectrumConfig(fft_size=32, hop_samples=8, window_samples=32)
LOSSES = AdversarialLosses(distances=(("mel", 45.0, MelDistance(sample_rate=1000, spectrum=SPECTRUM, num_mels=6)),))


def test_losses_and_gradients_equal_those_of_torch():
  model = drawn_model(CRITIC)
  made, real = (np.random.default_rng(seed).standard_normal((2, 64)).astype(np.float32) for seed in (0, 1))

  made, real = jnp.asarray(made), jnp.asarray(real)

  def generator(made, model):
    return LOSSES.generator(model(real), model(made), waveform=made, target=real)[0]

  def critic(model):
    return LOSSES.critic(model(real), model(made))[0]

  ours, gradient = jax.jit(jax.value_and_grad(generator))(made, model)
  ours_critic, critic_gradient = jax.jit(jax.value_and_grad(critic))(model)

  reference = torch_critics.TorchCritic(CRITIC.scales, CRITIC.periods)
  tensors = export_tensors(vits_critic_rules(CRITIC), trees.flatten(model))
  reference.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
  given, target = torch.from_numpy(np.array(made)).requires_grad_(), torch.from_numpy(np.array(real))
  hops = {"hop_samples": 32, "window_samples": 32, "fft_size": 32}
  bands = MelConfig(sample_rate=1000, num_mels=6, low_hz=0.0, high_hz=500.0, floor=0.0, **hops)
  filters = torch.from_numpy(filterbank(bands))
  mels = [torch_critics.log_mel(waveform, SPECTRUM, filters, 1e-9) for waveform in (given, target)]
  scores = reference(given)
  loss = torch_critics.generator_loss(scores) + 2 * torch_critics.feature_distance(reference(target), scores)
  loss = loss + 45 * (mels[0] - mels[1]).abs().mean()
  loss.backward()
  assert float(ours) == pytest.approx(loss.item(), rel=1e-5)
  np.testing.assert_allclose(gradient, given.grad, atol=1e-5 * float(given.grad.abs().max()))

  reference.zero_grad()
  loss = torch_critics.critic_loss(reference(target), reference(given.detach()))
  loss.backward()
  assert float(ours_critic) == pytest.approx(loss.item(), rel=1e-5)
  moved = export_tensors(vits_critic_rules(CRITIC), trees.flatten(critic_gradient))
  for name, parameter in reference.named_parameters():
    wanted = parameter.grad.numpy()
    np.testing.assert_allclose(moved[name], wanted, atol=1e-4 * max(np.abs(wanted).max(), 1e-3), err_msg=name)


def test_a_critic_that_is_sure_and_right_has_no_loss_and_one_that_is_wrong_has_two():
  part = lambda score: (np.zeros((1, 3, 2)), np.full((1, 3, 1), score))  # noqa: E731
  sure = LOSSES.critic((part(1.0),), (part(0.0),))
  wrong = LOSSES.critic((part(0.0),), (part(1.0),))
  assert float(sure[0]) == 0 and float(sure[1]["critic_right"][0]) == 1
  assert float(wrong[0]) == 2 and float(wrong[1]["critic_right"][0]) == 0
