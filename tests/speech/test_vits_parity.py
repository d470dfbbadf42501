"""Every part of the unit-to-speech model equals transformers' VITS with the same weights, in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.speech import alignment
from tests.speech.small_vits import (
  BINS,
  CONDITION,
  LATENT,
  UNITS,
  WIDTH,
  draw,
  in_transformers,
  small_config,
  small_model,
  valid_of,
)

torch = pytest.importorskip("torch")
pytest.importorskip("transformers.models.vits.modeling_vits")

LENGTHS, SIZE = [9, 6], 9
FRAMES, FRAME_SIZE = [14, 11], 14


def there(x):
  """Frames [B, T, C] to torch [B, C, T], a mask [B, T] to [B, 1, T]."""
  x = np.array(x)
  return torch.from_numpy(x[:, None] if x.ndim == 2 else x.swapaxes(1, 2).copy())


def back(x):
  return x.detach().numpy().swapaxes(1, 2)


def model_of(condition):
  return small_model(condition=CONDITION if condition else 0)


def conditions(condition):
  if not condition:
    return None, None
  vectors = draw((2, CONDITION), seed=5)
  return vectors, torch.from_numpy(np.array(vectors))[..., None]


@pytest.fixture(autouse=True)
def fixed_noise(monkeypatch):
  """Makes torch draw what the list holds, one array after the other."""
  noise, drawn = [], torch.randn

  def take(*shape):
    return noise.pop(0).reshape(shape) if noise else drawn(*shape)

  monkeypatch.setattr(torch, "randn", take)
  monkeypatch.setattr(torch, "randn_like", lambda x: take(*x.shape))
  return noise


def test_unit_encoder_with_padding_and_gradient():
  model = small_model()
  theirs = in_transformers(model)
  ids = jnp.asarray(np.random.default_rng(0).integers(0, UNITS, (2, SIZE)), jnp.int32)
  valid = valid_of(LENGTHS, SIZE)

  prior = jax.jit(lambda model, ids, valid: model.read(ids, valid))(model, ids, valid)
  inputs = torch.from_numpy(np.asarray(ids) + model.config.first_unit).long()
  found = theirs.text_encoder(inputs, there(valid).swapaxes(1, 2), there(valid)[:, 0].long())

  np.testing.assert_allclose(prior.hidden, found.last_hidden_state.detach(), atol=1e-5)
  np.testing.assert_allclose(prior.mean, found.prior_means.detach(), atol=1e-5)
  np.testing.assert_allclose(prior.log_deviation, found.prior_log_variances.detach(), atol=1e-5)
  assert np.abs(np.asarray(prior.mean[0])).max() > 0.1

  found.prior_means.square().sum().backward()
  loss = jax.jit(jax.grad(lambda model: jnp.square(model.read(ids, valid).mean).sum()))
  attention = loss(model).encoder.layers.attention
  reference = theirs.text_encoder.encoder.layers[1].attention
  for ours, wanted in ((attention.near_keys, reference.emb_rel_k), (attention.near_values, reference.emb_rel_v)):
    np.testing.assert_allclose(np.asarray(ours[...])[1], wanted.grad[0], atol=1e-4)


@pytest.mark.parametrize("condition", [True, False])
def test_durations_of_fixed_noise(condition, fixed_noise):
  model = model_of(condition)
  predictor = in_transformers(model).duration_predictor
  hidden, valid = draw((2, SIZE, WIDTH)), valid_of(LENGTHS, SIZE)
  hidden = hidden * valid[..., None]
  noise, (ours, theirs) = draw((2, SIZE, 2), seed=1), conditions(condition)

  fixed_noise.append(there(noise))
  wanted = predictor(there(hidden), there(valid), theirs, reverse=True, noise_scale=0.8)
  made = jax.jit(lambda part: part.log_durations(hidden, valid, ours, noise=0.8 * noise))(model.durations)
  np.testing.assert_allclose(made * valid, back(wanted)[..., 0] * valid, atol=1e-4)
  assert np.abs(np.asarray(made)).max() > 0.1


def likelihood_in_torch(part, hidden, valid, condition, *, durations, noise):
  """The bound of VITS from transformers' parts: its own forward pass also reverses channels behind the affine flow,
  unlike its backward pass and the original, and cannot be compared."""

  def flow(flows, pairs, known):
    pairs, total = flows[0](pairs, valid)
    for one in flows[1:]:
      pairs, log_determinant = one(pairs, valid, global_conditioning=known)
      pairs, total = pairs.flip(1), total + log_determinant
    return pairs, total

  log_normal = lambda z: (-0.5 * (np.log(2 * np.pi) + z**2) * valid).sum((1, 2))  # noqa: E731
  known = part.conv_pre(hidden) + (0 if condition is None else part.cond(condition))
  known = part.conv_proj(part.conv_dds(known, valid)) * valid
  heard = part.post_conv_proj(part.post_conv_dds(part.post_conv_pre(durations), valid)) * valid
  noise = noise * valid
  drawn, log_determinant = flow(part.post_flows, noise, known + heard)
  share = drawn[:, :1].sigmoid()
  log_posterior = log_normal(noise) - log_determinant - ((share * (1 - share)).log() * valid).sum((1, 2))
  logs = ((durations - share) * valid).clamp(min=1e-5).log() * valid
  latents, log_determinant = flow(part.flows, torch.cat([logs, drawn[:, 1:]], 1), known)
  return log_posterior - (log_normal(latents) + log_determinant - logs.sum((1, 2)))


@pytest.mark.parametrize("condition", [True, False])
def test_likelihood_of_durations(condition):
  model = model_of(condition)
  predictor = in_transformers(model).duration_predictor
  valid = valid_of(LENGTHS, SIZE)
  hidden, noise = draw((2, SIZE, WIDTH)) * valid[..., None], draw((2, SIZE, 2), seed=1)
  ours, theirs = conditions(condition)
  durations = jnp.asarray(np.random.default_rng(2).integers(1, 9, (2, SIZE)), jnp.float32) * valid
  wanted = likelihood_in_torch(
    predictor, there(hidden), there(valid), theirs, durations=there(durations), noise=there(noise)
  )
  made = jax.jit(
    lambda part: part.negative_log_likelihood(hidden, valid, ours, durations=durations, noise=noise)
  )(model.durations)  # fmt: skip
  np.testing.assert_allclose(made, wanted.detach(), rtol=1e-5)


@pytest.mark.parametrize("condition", [True, False])
def test_flow_both_ways_and_posterior(condition, fixed_noise):
  model = model_of(condition)
  reference = in_transformers(model)
  latents, valid = draw((2, FRAME_SIZE, LATENT)), valid_of(FRAMES, FRAME_SIZE)
  latents = latents * valid[..., None]
  ours, theirs = conditions(condition)

  forward = jax.jit(lambda part: part.forward(latents, valid, ours))(model.flow)
  backward = jax.jit(lambda part: part.backward(latents, valid, ours))(model.flow)
  np.testing.assert_allclose(forward, back(reference.flow(there(latents), there(valid), theirs)), atol=1e-5)
  wanted = back(reference.flow(there(latents), there(valid), theirs, reverse=True))
  np.testing.assert_allclose(backward, wanted, atol=1e-5)
  again = jax.jit(lambda part: part.forward(backward, valid, ours))(model.flow)
  np.testing.assert_allclose(again, latents, atol=1e-5)

  spectrogram, noise = jnp.abs(draw((2, FRAME_SIZE, BINS), seed=3)), draw((2, FRAME_SIZE, LATENT), seed=4)
  fixed_noise.append(there(noise))
  posterior = jax.jit(lambda part: part(spectrogram, valid, ours, noise=noise))(model.posterior)
  wanted = reference.posterior_encoder(there(spectrogram), there(valid), theirs)
  for made, part in zip(posterior, wanted, strict=True):
    np.testing.assert_allclose(made, back(part), atol=1e-5)


def test_the_whole_from_units_to_waveform(fixed_noise):
  model = small_model()
  reference = in_transformers(model)
  ids = jnp.asarray(np.random.default_rng(3).integers(0, UNITS, (1, SIZE)), jnp.int32)
  duration_noise = draw((1, SIZE, 2), seed=6)
  speaker, valid = model.speakers[...][1:2], jnp.ones((1, SIZE))

  prior = jax.jit(lambda model: model.read(ids, valid))(model)
  logs = jax.jit(lambda model: model.log_durations(prior, valid, speaker, noise=0.8 * duration_noise))(model)
  durations = np.ceil(np.exp(np.asarray(logs)))[0].astype(int)
  path = jnp.asarray(alignment.path_of(durations, num_frames=durations.sum()))[None]
  noise = draw((1, path.shape[1], LATENT), seed=7)
  fixed_noise += [there(duration_noise), there(noise)]
  wanted = reference(torch.from_numpy(np.asarray(ids) + model.config.first_unit).long(), speaker_id=1).waveform

  @jax.jit
  def speak(model):
    latents = model.draw(prior, path, noise=0.667 * noise)
    return model.sound(latents, jnp.ones(path.shape), speaker)

  made = speak(model)
  assert made.shape == wanted.shape and np.abs(np.asarray(made)).max() > 0.01
  np.testing.assert_allclose(made, wanted.detach(), atol=1e-4)


def test_the_config_without_condition_has_no_speakers():
  assert small_config(condition=0).num_speakers == 0 and model_of(False).speakers is None
