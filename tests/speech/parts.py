"""Every tokenizer and vocoder at a size for tests, random weights, as the interface sees them."""

import dataclasses
import functools

import jax
import numpy as np

from configs.emova import tokenizer as tokenizer_file
from omni_jax.core.styles import Style
from omni_jax.speech.conditions import CONDITIONS, Centroids
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.hubert import StemLayer
from omni_jax.speech.interface import SpeechTokenizer, Vocoder
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig
from omni_jax.speech.snac import SNACConfig
from omni_jax.speech.unit_hifigan import DurationConfig, UnitHiFiGANConfig
from omni_jax.speech.unit_voice import Delivery, UnitVoice
from tests.models.drawn import drawn
from tests.speech import huberts, spirals
from tests.speech.drawn import drawn_model
from tests.speech.small_vits import CONDITION, draw, small_model
from tests.speech.vocoders import SMALL, make_vocoder

STYLE = Style("male", "sad", "low")
ONE_VOICE = UnitHiFiGANConfig(
  sample_rate=1000,
  codebook_size=30,
  embedding=6,
  speakers=0,
  duration=DurationConfig(width=8, taps=3, dropout=0.5),
  generator=HiFiGANConfig(
    inputs=6,
    width=16,
    rates=(5, 2),
    taps=(11, 4),
    residual="1",
    block_taps=(3, 5),
    block_dilations=((1, 3), (2,)),
  ),
)
SPEAKERS = dataclasses.replace(ONE_VOICE, speakers=3, generator=dataclasses.replace(ONE_VOICE.generator, inputs=12))
CODEC = SNACConfig(
  sample_rate=2400,
  encoder_width=4,
  encoder_rates=(2, 3),
  decoder_width=16,
  decoder_rates=(3, 2),
  codebook_size=16,
  code_width=3,
  strides=(4, 2, 1),
  depthwise=True,
  noise=True,
)
TOKENIZER = dataclasses.replace(
  tokenizer_file.MODEL, num_phones=6, stem_width=16, width=24, depth=2, decoder_width=16, decoder_depth=1
)
# 320 samples a frame and a window of 400, as published.
_HUBERT = dataclasses.replace(
  huberts.BASE,
  stem=(StemLayer(width=8, taps=16, stride=16), StemLayer(width=8, taps=25, stride=20)),
  encoder=dataclasses.replace(huberts.BASE.encoder, depth=1),
)
KMEANS = KMeansTokenizerConfig(hubert=_HUBERT, layer=1, num_classes=30, longest_seconds=0.5)
# No unit ahead, as `configs/emova/vocoder_causal.py`.
CAUSAL = dataclasses.replace(SMALL, unit_blocks=((1, 0), (2, 0)))


def unit_hifigan(config=ONE_VOICE):
  model = drawn_model(config)
  # Durations of one to five frames, and embeddings that are heard.
  model.units.set_value(model.units[...] * 6)
  model.durations.output.weight.set_value(model.durations.output.weight[...] * 3)
  model.durations.output.bias.set_value(model.durations.output.bias[...] * 0 + 1.0)
  return model


def codec(config=CODEC):
  """A codec that is not driven into the flat ends of tanh, where nothing could be told apart."""
  model = drawn_model(config)
  gain = model.decoder.last.weight.gain
  gain.set_value(gain[...] * 0.05)
  return model


def unit_voice():
  centroids = Centroids(CONDITIONS, np.asarray(draw((126, CONDITION))))
  return UnitVoice(small_model(), centroids=centroids, delivery=Delivery(length=16.0))


@functools.cache
def tokenizers() -> dict[str, SpeechTokenizer]:
  return {
    "tokenizer": TOKENIZER.make(key=jax.random.key(0)),
    "speech-to-unit": spirals.drawn(),
    "kmeans": drawn(KMEANS, deviation=0.5),
    "snac": codec(),
  }


@functools.cache
def vocoders() -> dict[str, Vocoder]:
  return {
    "istft": make_vocoder(),
    "causal": make_vocoder(CAUSAL),
    "unit-hifigan": unit_hifigan(),
    "unit-hifigan-speakers": unit_hifigan(SPEAKERS),
    "unit-voice": unit_voice(),
    "snac": codec(),
  }


def units_of(vocoder: Vocoder, number: int, seed: int = 0) -> np.ndarray:
  """Returns units for a vocoder, none equal to the one before; rows of codes where a frame has several."""
  shape = (number, vocoder.num_codebooks) if vocoder.num_codebooks > 1 else (number,)
  steps = np.random.default_rng(seed).integers(1, vocoder.codebook_size, shape)
  return (np.cumsum(steps, axis=0) % vocoder.codebook_size).astype(np.int32)
