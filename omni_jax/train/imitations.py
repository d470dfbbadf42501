"""How each vocoder makes a clip that its critics compare with the recording; models are called by their methods."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar, Sums, Waveform
from omni_jax.speech.spectrogram import VITS_FLOOR, SpectrumConfig, magnitude_of_rows
from omni_jax.speech.unit_to_speech import Noise, Recordings
from omni_jax.train.unit_health import durations_apart, use_of_codes

_FIRST_FRAMES = 1 << 16  # the noise of a clip begins at any of these frames


class Imitation(NamedTuple):
  """A clip made and the recording of it, and what the generator minimises besides."""

  waveform: Waveform
  target: Waveform
  loss: Scalar
  metrics: Sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeakUnits:
  """Unit HiFi-GAN says the units of a clip in their true time; its durations learn beside.

  A batch has `units` [B, U], one for each frame, `waveform` [B, U * hop], `speaker` [B] where there are speakers, and
  for durations the same reduced: `reduced` [B, N], `counts` [B, N] in frames, 0 on padding, and `counted` [B, N], 1 on
  runs whose whole length is known.

  Attributes:
    duration: weight of the mean squared error of log(1 + frames).
  """

  duration: float = 1.0

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> Imitation:
    """Returns the clip."""
    waveform = model(batch["units"], speaker=batch.get("speaker"))
    if not self.duration:
      return Imitation(waveform, batch["waveform"], jnp.zeros(()), {})
    counts, counted = batch["counts"], batch["counted"]
    predicted = model.log_durations(batch["reduced"], (counts > 0).astype(jnp.float32), key=key)
    error = (jnp.square(predicted - jnp.log1p(counts)) * counted).sum()
    loss = self.duration * error / jnp.maximum(counted.sum(), 1.0)
    metrics = {"duration": (error, counted.sum()), **durations_apart(jnp.expm1(predicted), counts, counted)}
    return Imitation(waveform, batch["waveform"], loss, metrics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopySpeech:
  """SNAC encodes and decodes a clip of whole frames: `waveform` [B, F * hop].

  Attributes:
    codebook: weight of the distance of codes from latents.
    commitment: of latents from codes (DAC, arXiv 2306.06546: 1 and 0.25).
  """

  codebook: float = 1.0
  commitment: float = 0.25

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> Imitation:
    """Returns the copy, and how each codebook is used by this batch, the slowest first (`codebook_use`)."""
    waveform = batch["waveform"]
    first = jax.random.randint(key, (waveform.shape[0],), 0, _FIRST_FRAMES)
    copied = model.copy(waveform, first=first)
    loss = self.codebook * copied.codebook + self.commitment * copied.commitment
    metrics = {"codebook": (copied.codebook, jnp.ones(())), "commitment": (copied.commitment, jnp.ones(()))}
    levels = [level for level, _ in model.config.columns]
    for level in range(max(levels) + 1):
      codes = copied.codes[..., jnp.array([column for column, own in enumerate(levels) if own == level])]
      metrics |= codebook_use(codes, size=model.codebook_size, name=f"codebook_{level}")
    return Imitation(copied.waveform, waveform, loss, metrics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeakUtterances:
  """VITS (arXiv 2106.06103) says a segment of each utterance from what its posterior encoder hears of the recording.

  A batch has `units` [B, U], reduced, and `num_units` [B]; `waveform` [B, T * hop] and `num_frames` [B], at least a
  segment and one for each unit. The condition is what the model's own voice encoder makes of the recording.

  Attributes:
    spectrum: analysis that posterior and voice encoder hear; its hop is the decoder's.
    segment_frames: of an utterance that are made to sound.
    divergence: weight of the nats between posterior and prior of a frame.
    duration: weight of the nats of a unit's duration.
  """

  spectrum: SpectrumConfig
  segment_frames: int
  divergence: float = 1.0
  duration: float = 1.0

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> Imitation:
    """Returns the segments."""
    keys, hop = jax.random.split(key, 4), model.config.decoder.hop
    waveform, num_frames = batch["waveform"], batch["num_frames"]
    heard = magnitude_of_rows(waveform, num_frames * hop, self.spectrum, floor=VITS_FLOOR)
    valid = (jnp.arange(heard.shape[1]) < num_frames[:, None]).astype(jnp.float32)
    condition = None if model.voice is None else model.voice(heard, valid, key=keys[0])
    recordings = Recordings(batch["units"], batch["num_units"], heard, num_frames)
    noise = Noise(
      jax.random.normal(keys[1], (*batch["units"].shape, 2)),
      jax.random.normal(keys[2], (*heard.shape[:2], model.config.decoder.inputs)),
    )
    made = model.imitate(recordings, condition, noise=noise, segment_frames=self.segment_frames, key=keys[3])
    places = made.starts[:, None] * hop + jnp.arange(self.segment_frames * hop)
    parts = {"divergence": made.divergence, "duration": made.duration_loss}
    return Imitation(
      waveform=made.waveform,
      target=jnp.take_along_axis(waveform, places, axis=1),
      loss=self.divergence * made.divergence + self.duration * made.duration_loss,
      metrics={
        **{name: (value, jnp.ones(())) for name, value in parts.items()},
        **_drawn_apart(model, recordings, condition, made.durations),
      },
    )


def codebook_use(codes: Array, *, size: int, name: str) -> Sums:
  """Returns the share of a codebook's codes that occur, and the perplexity of their distribution (1 to `size`)."""
  used, perplexity = use_of_codes(jnp.zeros(size).at[codes.ravel()].add(1.0))
  one = jnp.ones(())
  return {f"{name}_used": (used / size, one), f"{name}_perplexity": (perplexity, one)}


def _drawn_apart(model: Any, recordings: Recordings, condition: Array | None, durations: Array) -> Sums:
  """Returns `durations_apart` of the most likely noise from what the alignment found; nothing learns from it."""
  valid = (jnp.arange(durations.shape[1]) < recordings.num_units[:, None]).astype(jnp.float32)
  prior = model.read(recordings.units, valid)
  logs = model.log_durations(prior, valid, condition, noise=jnp.zeros((*valid.shape, 2)))
  return jax.lax.stop_gradient(durations_apart(jnp.ceil(jnp.exp(logs)), durations, valid))
