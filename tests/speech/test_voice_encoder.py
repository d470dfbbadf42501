import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.unit_to_speech import export_unit_to_speech
from tests.speech.small_vits import BINS, draw, small_model, valid_of

FRAMES = 13


def encoder():
  return small_model(voice=True, normed_decoder=True)


def test_it_equals_the_published_encoder_on_a_recording_alone():
  """The encoder as EMOVA published it, written with PyTorch's functions over tensors of its names."""
  torch = pytest.importorskip("torch")
  ours, functional = encoder(), torch.nn.functional
  given = export_unit_to_speech(ours)
  tensors = {name: torch.from_numpy(np.array(tensor)) for name, tensor in given.items() if name.startswith("enc_r.")}

  def linear(name, x):
    return functional.linear(x, tensors[f"enc_r.{name}.weight"], tensors[f"enc_r.{name}.bias"])

  spectrogram = jnp.abs(draw((1, FRAMES, BINS)))
  x = functional.mish(linear("spectral.0.fc", torch.from_numpy(np.array(spectrogram))))
  x = functional.mish(linear("spectral.3.fc", x)).transpose(1, 2)
  for layer in range(2):
    name = f"enc_r.temporal.{layer}.conv1.conv"
    x = x + functional.glu(functional.conv1d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=2), dim=1)
  x = x.transpose(1, 2)
  width = x.shape[-1]
  queries, keys, values = (
    linear(f"slf_attn.w_{part}s", x).reshape(1, FRAMES, 2, width // 2).transpose(1, 2) for part in "qkv"
  )
  weights = torch.softmax(queries @ keys.transpose(-1, -2) / width**0.5, dim=-1)
  x = linear("slf_attn.fc", (weights @ values).transpose(1, 2).reshape(x.shape)) + x
  expected = functional.normalize(linear("fc.fc", x).mean(1), dim=1)

  made = jax.jit(lambda part: part(spectrogram, jnp.ones((1, FRAMES))))(ours.voice)
  np.testing.assert_allclose(made, expected, atol=1e-5)


def test_a_padded_row_gives_what_the_row_alone_gives():
  spectrogram, valid = jnp.abs(draw((2, FRAMES, BINS), seed=1)), valid_of([FRAMES, 8], FRAMES)
  hear = jax.jit(lambda part, spectrogram, valid: part(spectrogram, valid))
  both = hear(encoder().voice, spectrogram, valid)
  alone = hear(encoder().voice, spectrogram[1:, :8], valid[1:, :8])
  np.testing.assert_allclose(both[1:], alone, atol=1e-6)
  np.testing.assert_allclose(jnp.linalg.norm(both, axis=1), 1.0, rtol=1e-5)
  assert np.abs(np.asarray(both[0] - both[1])).max() > 1e-2
