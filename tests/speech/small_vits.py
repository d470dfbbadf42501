"""A unit-to-speech model small enough for tests, and transformers' VITS with the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.convert.unit_to_speech import TRANSFORMERS_NAMES, export_unit_to_speech
from omni_jax.speech.duration_predictor import DurationPredictorConfig
from omni_jax.speech.gated_convolutions import GatedConvolutionsConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.latents import FlowConfig, PosteriorConfig
from omni_jax.speech.unit_encoder import UnitEncoderConfig
from omni_jax.speech.unit_to_speech import UnitToSpeech, UnitToSpeechConfig
from omni_jax.speech.voice_encoder import VoiceEncoderConfig
from tests.speech.drawn import drawn_model

WIDTH, LATENT, BINS, CONDITION, SPEAKERS, SYMBOLS, UNITS = 12, 8, 9, 5, 3, 4, 20


def small_config(*, condition: int = CONDITION, voice: bool = False, normed_decoder: bool = False):
  """Returns the config; as transformers has it, the decoder is folded and there is no voice encoder."""
  gated = GatedConvolutionsConfig(width=WIDTH, taps=5, depth=2, condition=condition)
  return UnitToSpeechConfig(
    sample_rate=22_050,
    first_unit=SYMBOLS,
    encoder=UnitEncoderConfig(
      vocab_size=SYMBOLS + UNITS, width=WIDTH, mlp_dim=20, num_heads=2, depth=2, taps=3, window=3, latent=LATENT
    ),
    durations=DurationPredictorConfig(
      width=WIDTH, taps=3, depth=2, num_flows=3, bins=5, bound=5.0, condition=condition
    ),
    flow=FlowConfig(latent=LATENT, depth=2, convolutions=gated),
    posterior=PosteriorConfig(
      bins=BINS, latent=LATENT, convolutions=GatedConvolutionsConfig(width=WIDTH, taps=5, depth=3, condition=condition)
    ),
    decoder=HiFiGANConfig(
      inputs=LATENT, width=16, rates=(4, 2), taps=(8, 4), residual="1", block_taps=(3, 5),
      block_dilations=((1,), (3,)), condition=condition, normed_ends=False, last_bias=False, normed=normed_decoder,
    ),
    voice=VoiceEncoderConfig(bins=BINS, width=WIDTH, outputs=condition, taps=5, num_heads=2) if voice else None,
    num_speakers=SPEAKERS if condition else 0,
  )  # fmt: skip


@functools.cache
def small_model(**options) -> UnitToSpeech:
  return drawn_model(small_config(**options))


def in_transformers(model: UnitToSpeech):
  """Returns transformers' VITS of the same config and weights."""
  import torch
  from transformers import VitsConfig, VitsModel

  config = model.config
  theirs = VitsModel(
    VitsConfig(
      vocab_size=config.encoder.vocab_size, hidden_size=WIDTH, num_hidden_layers=config.encoder.depth,
      num_attention_heads=2, window_size=config.encoder.window, ffn_dim=config.encoder.mlp_dim, flow_size=LATENT,
      spectrogram_bins=BINS, num_speakers=config.num_speakers or 1, speaker_embedding_size=config.condition,
      upsample_initial_channel=16, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4],
      resblock_kernel_sizes=[3, 5], resblock_dilation_sizes=[[1], [3]], depth_separable_num_layers=2,
      duration_predictor_flow_bins=5, duration_predictor_num_flows=3, prior_encoder_num_flows=2,
      prior_encoder_num_wavenet_layers=2, posterior_encoder_num_wavenet_layers=3,
    )
  )  # fmt: skip
  tensors = export_unit_to_speech(model, names=TRANSFORMERS_NAMES)
  theirs.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}, strict=True)
  return theirs.eval()


def draw(shape, *, seed=0) -> jax.Array:
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def valid_of(lengths, size) -> jax.Array:
  return (jnp.arange(size)[None] < jnp.asarray(lengths)[:, None]).astype(jnp.float32)
