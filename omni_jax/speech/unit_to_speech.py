"""Units and a condition -> speech: EMOVA's unit-to-speech model, a VITS (arXiv 2106.06103) whose text is units.

    units [U] --unit encoder--> prior of each unit --duration predictor (noise, condition)--> frames of each unit
       |  each unit's prior repeated for its frames, a draw from it
       v
    latents of the prior --flow backwards, condition--> latents --HiFi-GAN, condition--> waveform, `hop` samples a frame

In training the flow runs forwards, from what the posterior encoder makes of the recording, and monotonic alignment
search finds which unit a frame belongs to. The condition is one vector for the whole utterance: that of a recording's
voice (`voice_encoder.py`), in synthesis the centroid of a style (`conditions.py`). Reference files:
EMOVA_speech_tokenizer `UVITS/models.py` (`SynthesizerTrn`), transformers `modeling_vits.py`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, Key, Units, Waveform, typed
from omni_jax.nn.parameter import table
from omni_jax.speech import alignment
from omni_jax.speech.duration_predictor import DurationPredictorConfig
from omni_jax.speech.gated_convolutions import GatedConvolutionsConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.latents import FlowConfig, PosteriorConfig
from omni_jax.speech.unit_encoder import Prior, UnitEncoderConfig
from omni_jax.speech.voice_encoder import VoiceEncoderConfig

Valid = Float[Array, "B U"]
FrameValid = Float[Array, "B T"]
Condition = Float[Array, "B G"]
Latents = Float[Array, "B T C"]
Counts = Int[Array, "B"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitToSpeechConfig:
  """The parts, and what the numbers in front of and behind them mean.

  Attributes:
    sample_rate: samples per second of the waveform.
    first_unit: row of unit 0 in the table; what is before it are symbols of text.
    encoder: of units.
    durations: of units.
    flow: between the latents of the prior and those of sound.
    posterior: latents of a recording, for training.
    decoder: latents -> waveform.
    voice: condition of a recording; None where conditions are speakers.
    num_speakers: rows of a table of vectors as wide as the condition; 0 for none.
  """

  sample_rate: int
  first_unit: int
  encoder: UnitEncoderConfig
  durations: DurationPredictorConfig
  flow: FlowConfig
  posterior: PosteriorConfig
  decoder: HiFiGANConfig
  voice: VoiceEncoderConfig | None = None
  num_speakers: int = 0

  def __post_init__(self):
    latents = {self.encoder.latent, self.flow.latent, self.posterior.latent, self.decoder.inputs}
    assert len(latents) == 1, f"encoder, flow, posterior and decoder disagree on the latent channels: {latents}"
    widths = {self.durations.condition, self.decoder.condition}
    widths |= {self.flow.convolutions.condition, self.posterior.convolutions.condition}
    widths |= {self.voice.outputs} if self.voice else set()
    assert len(widths) == 1, f"the parts disagree on the width of the condition: {widths}"
    assert self.condition or not self.num_speakers, "speakers are conditions"
    assert self.durations.width == self.encoder.width, "the duration predictor reads the encoder's hidden states"

  @property
  def condition(self) -> int:
    """Width of the condition; 0 for none."""
    return self.decoder.condition

  @property
  def codebook_size(self) -> int:
    """Number of different units."""
    return self.encoder.vocab_size - self.first_unit

  @property
  def context(self) -> int:
    """Frames on each side of a frame that its samples depend on, from the latents of the prior on."""
    return self.flow.context + self.decoder.context

  @property
  def inference(self) -> "UnitToSpeechConfig":
    """The same model with every kernel folded into one array, for `nn.weight_norm.fold_model`."""
    flow = dataclasses.replace(self.flow, convolutions=dataclasses.replace(self.flow.convolutions, normed=False))
    folded = dataclasses.replace(self.posterior.convolutions, normed=False)
    posterior = dataclasses.replace(self.posterior, convolutions=folded)
    decoder = dataclasses.replace(self.decoder, normed=False)
    return dataclasses.replace(self, flow=flow, posterior=posterior, decoder=decoder)

  def make(self, *, key: Key) -> "UnitToSpeech":
    """Returns a new model."""
    return UnitToSpeech(self, key=key)


class Noise(NamedTuple):
  """Standard normal draws of a training step: for durations [B, U, 2] and for the posterior [B, T, C]."""

  durations: Float[Array, "B U 2"]
  latents: Latents


class Recordings(NamedTuple):
  """A batch to train on.

  Attributes:
    units: reduced units, padded.
    num_units: of each row.
    spectrogram: linear magnitudes of the recordings (`spectrogram.magnitude`).
    num_frames: of each row, at least `num_units` (`alignment.check_alignable`).
  """

  units: Units
  num_units: Counts
  spectrogram: Float[Array, "B T F"]
  num_frames: Counts


class Imitation(NamedTuple):
  """What a training step compares.

  Attributes:
    waveform: sound of one segment of each recording.
    starts: first frame of each segment.
    duration_loss: nats of the durations for each unit of the batch.
    divergence: nats between posterior and prior for each frame of the batch (Kullback-Leibler, one draw).
    durations: frames of each unit, as the alignment found them.
  """

  waveform: Waveform
  starts: Counts
  duration_loss: Float[Array, ""]
  divergence: Float[Array, ""]
  durations: Int[Array, "B U"]


class UnitToSpeech(nnx.Module):
  """The model; `unit_voice.UnitVoice` speaks with it, `imitate` is for training."""

  def __init__(self, config: UnitToSpeechConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 7)
    self.encoder = config.encoder.make(key=keys[0])
    self.durations = config.durations.make(key=keys[1])
    self.flow = config.flow.make(key=keys[2])
    self.posterior = config.posterior.make(key=keys[3])
    self.decoder = config.decoder.make(key=keys[4])
    self.voice = config.voice.make(key=keys[5]) if config.voice else None
    shape = (config.num_speakers, config.condition)
    self.speakers = table(keys[6], shape, axes=(None, None), deviation=1.0) if config.num_speakers else None

  @typed
  def read(self, units: Units, valid: Valid, *, key: Key | None = None) -> Prior:
    """Returns the prior of every unit; `valid` is 1 on units and 0 on padding, `key` is of dropout."""
    return self.encoder(units + self.config.first_unit, valid, key=key)

  @typed
  def log_durations(
    self, prior: Prior, valid: Valid, condition: Condition | None, *, noise: Float[Array, "B U 2"]
  ) -> Valid:
    """Returns the logarithms of durations in frames, one draw of them; `noise` has the deviation that is wanted."""
    return self.durations.log_durations(prior.hidden, valid, condition, noise=noise)

  @typed
  def draw(self, prior: Prior, path: Int[Array, "B T"], *, noise: Latents) -> Latents:
    """Returns latents of the prior for frames whose units are given (`alignment.path_of`).

    A frame without a unit has a standard normal prior, as in the original when every duration is zero.
    """
    return alignment.spread(prior.mean, path) + noise * jnp.exp(alignment.spread(prior.log_deviation, path))

  @typed
  def sound(self, latents: Latents, valid: FrameValid, condition: Condition | None) -> Waveform:
    """Returns `hop` samples for each frame of latents of the prior, zero where `valid` is."""
    return self.decoder(self.flow.backward(latents, valid, condition), valid, condition=condition)

  @typed
  def imitate(
    self, batch: Recordings, condition: Condition | None, *, noise: Noise, segment_frames: int, key: Key
  ) -> Imitation:
    """Returns what the losses of a training step compare; mel and adversarial losses read `waveform`.

    Args:
      batch: recordings and their units; every recording has at least `segment_frames` frames.
      condition: of each recording, `self.voice` of its spectrogram in the original.
      noise: of this step.
      segment_frames: frames of which sound is made, at a random place of each recording.
      key: of dropout and of the places.
    """
    dropout, lasting, places = jax.random.split(key, 3)
    valid = _valid(batch.num_units, batch.units.shape[1])
    frames = _valid(batch.num_frames, batch.spectrogram.shape[1])
    prior = self.read(batch.units, valid, key=dropout)
    heard = self.posterior(batch.spectrogram, frames, condition, noise=noise.latents)
    flowed = self.flow.forward(heard.latents, frames, condition)
    scores = alignment.log_likelihoods(flowed, prior.mean, prior.log_deviation)
    path = alignment.align(scores, batch.num_units, batch.num_frames)
    durations = alignment.durations_of(path, max_units=batch.units.shape[1])
    nats = self.durations.negative_log_likelihood(
      prior.hidden, valid, condition, durations=durations.astype(jnp.float32), noise=noise.durations, key=lasting
    )
    mean, log_deviation = alignment.spread(prior.mean, path), alignment.spread(prior.log_deviation, path)
    apart = log_deviation - heard.log_deviation - 0.5 + 0.5 * (flowed - mean) ** 2 * jnp.exp(-2.0 * log_deviation)
    starts = _random_starts(batch.num_frames - segment_frames, key=places)
    segment = starts[:, None] + jnp.arange(segment_frames)[None]
    waveform = self.decoder(jnp.take_along_axis(heard.latents, segment[..., None], axis=1), condition=condition)
    return Imitation(
      waveform, starts, nats.sum() / valid.sum(), (apart * frames[..., None]).sum() / frames.sum(), durations
    )


def _valid(counts: Counts, length: int) -> Float[Array, "B T"]:
  return (jnp.arange(length)[None] < counts[:, None]).astype(jnp.float32)


def _random_starts(last: Counts, *, key: Key) -> Counts:
  return jax.random.randint(key, last.shape, 0, jnp.maximum(last, 0) + 1)


def uvits(
  *, width: int, mlp_dim: int, vocab_size: int, first_unit: int, condition: int, decoder: HiFiGANConfig
) -> UnitToSpeechConfig:
  """Returns a model of the depths and taps of EMOVA's, of any width; `decoder.inputs` is the number of latents."""
  gated = GatedConvolutionsConfig(width=width, taps=5, depth=4, condition=condition)
  bins, latent = 513, decoder.inputs
  return UnitToSpeechConfig(
    sample_rate=22_050,
    first_unit=first_unit,
    encoder=UnitEncoderConfig(
      vocab_size=vocab_size, width=width, mlp_dim=mlp_dim, num_heads=2, depth=6, taps=3, window=4, latent=latent,
      dropout=0.1,
    ),
    durations=DurationPredictorConfig(
      width=width, taps=3, depth=3, num_flows=4, bins=10, bound=5.0, condition=condition, dropout=0.5
    ),
    flow=FlowConfig(latent=latent, depth=4, convolutions=gated),
    posterior=PosteriorConfig(bins=bins, latent=latent, convolutions=dataclasses.replace(gated, depth=16)),
    decoder=decoder,
    voice=VoiceEncoderConfig(bins=bins, width=width, outputs=condition, taps=5, num_heads=2, dropout=0.1),
  )  # fmt: skip


# EMOVA's released model, `40ms_multilingual_8888_xujing_cosyvoice_FT`: 41,874,224 parameters as they are trained.
EMOVA_UNIT_TO_SPEECH = dataclasses.replace(
  uvits(
    width=192,
    mlp_dim=768,
    vocab_size=4274,
    first_unit=178,
    condition=256,
    decoder=HiFiGANConfig(
      inputs=192,
      width=512,
      rates=(8, 8, 2, 2),
      taps=(16, 16, 4, 4),
      residual="1",
      block_taps=(3, 7, 11),
      block_dilations=((1, 3, 5),) * 3,
      condition=256,
      normed_ends=False,
      last_bias=False,
    ),
  ),
  num_speakers=1344,
)
