"""Losses of the speech tokenizer and the style encoder; the models are called by their methods, not imported.

A loss is a frozen dataclass, so its weights are part of the run's config and of its fingerprint.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from omni_jax.core.arrays import Array, Key, Scalar, Sums
from omni_jax.core.styles import EMOTIONS, GENDERS, PITCHES
from omni_jax.train.alignment import align, at_labels
from omni_jax.train.unit_health import code_use, phone_errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerLoss:
  """CTC on phones read from the units, and the phone of each frame before it becomes a code.

  Attributes:
    frames: weight of the phones of single frames, in the alignment that the model itself finds likely.
    warp: the mel axis of each recording is stretched by a factor within 1 +- warp (other vocal tracts).
    time_masks, time_mask_frames: spans of frames set to zero, each up to this long (SpecAugment, arXiv 1904.08779).
    mel_masks, mel_mask_bins: spans of bins set to zero, each up to this wide.
  """

  frames: float = 1.0
  warp: float = 0.0
  time_masks: int = 0
  time_mask_frames: int = 0
  mel_masks: int = 0
  mel_mask_bins: int = 0

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of a batch from `batches.utterances`.

    Metrics, as (sum, count): `ctc` nats for each phone and `frames` for each frame; `units_used` and `perplexity` of
    the units of the batch, augmented as it is; `phone_errors` of what is read from them, for each phone.
    """
    config, samples = model.config, batch["samples"]
    phones = {"phones": batch["phones"], "num_phones": batch["num_phones"]}
    num_frames, num_units = config.mel.num_frames(samples), model.num_units(samples)
    features = jax.lax.stop_gradient(model.features(batch["waveform"], samples))
    frame_phones = model.frame_phones(model.hidden(self.augment(features, key), num_frames))
    codes = config.quantizer.quantise(model.places(frame_phones, sharpness=config.sharpness))
    logits = model.decoder(codes, num_units)
    ctc, num_phones = ctc_sum(logits, num_units, **phones)
    log_probs = jax.nn.log_softmax(frame_phones)
    occupancy, labels = align(log_probs, num_units, **phones)
    frames, num_valid = -(occupancy * at_labels(log_probs, labels)).sum(), jnp.maximum(occupancy.sum(), 1.0)
    loss = ctc / num_phones + self.frames * frames / num_valid
    metrics = {"ctc": (ctc, num_phones), "frames": (frames, num_valid)}
    metrics |= code_use(config.quantizer.codes_to_units(codes), num_units, size=config.quantizer.codebook_size)
    return loss, metrics | {"phone_errors": phone_errors(logits, num_units, **phones)}

  def augment(self, features: Array, key: Key) -> Array:
    """Returns mel frames [B, T, M] warped and masked; unchanged where every setting is 0."""
    warp_key, time_key, mel_key = jax.random.split(key, 3)
    if self.warp:
      features = _warp_mels(features, jax.random.uniform(warp_key, features.shape[:1], minval=-1.0) * self.warp)
    rows, frames, bins = features.shape
    time_mask = _spans(time_key, (rows, frames), count=self.time_masks, longest=self.time_mask_frames)
    mel_mask = _spans(mel_key, (rows, bins), count=self.mel_masks, longest=self.mel_mask_bins)
    return jnp.where(time_mask[:, :, None] | mel_mask[:, None, :], 0.0, features)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleLoss:
  """Cross entropy of gender, emotion and pitch; rows of unknown style (-1) count nothing.

  Attributes:
    smoothing: share of every target spread over all classes.
    rate: weight of the squared error of the speaking rate in octaves, known from phones and length: a target for every
      recording that shows the way to the emotions which differ in rate.
  """

  smoothing: float = 0.0
  rate: float = 0.0

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of a batch from `batches.utterances`, and the accuracy of each part as (sum, count)."""
    del key
    outputs = model.outputs(batch["waveform"], batch["samples"])
    logits, rate = outputs[:, :-1], outputs[:, -1]
    sizes = (len(GENDERS), len(EMOTIONS), len(PITCHES))
    labelled = (batch["style"][:, 0] >= 0).astype(jnp.float32)
    count = jnp.maximum(labelled.sum(), 1.0)
    total, metrics = jnp.zeros(()), {}
    parts = zip(("gender", "emotion", "pitch"), jnp.split(logits, np.cumsum(sizes)[:-1], axis=-1), strict=True)
    for place, (name, part) in enumerate(parts):
      label = batch["style"][:, place]
      target = optax.smooth_labels(jax.nn.one_hot(label, part.shape[-1]), self.smoothing)
      total += (labelled * optax.softmax_cross_entropy(part, target)).sum()
      metrics[name] = ((labelled * (part.argmax(-1) == label)).sum(), count)
    seconds = jnp.maximum(batch["samples"], 1) / model.sample_rate
    phones_per_second = jnp.maximum(batch["num_phones"], 1) / seconds
    error = (labelled * jnp.square(rate - jnp.log2(phones_per_second / 10.0))).sum()
    metrics["rate_error"] = (error, count)
    return (total + self.rate * error) / count, metrics


def ctc_sum(logits: Array, num_units: Array, *, phones: Array, num_phones: Array) -> tuple[Array, Array]:
  """Returns the CTC loss in nats summed over the batch, and the phones it counts.

  A recording with fewer frames than its phones need (repeated phones need a blank between them) has no alignment; it
  counts nothing, as `zero_infinity` of PyTorch has it.
  """
  valid = jnp.arange(phones.shape[1])[None, :] < num_phones[:, None]
  repeats = jnp.where(valid[:, 1:], phones[:, 1:] == phones[:, :-1], False).sum(-1)
  possible = (num_units >= num_phones + repeats) & (num_phones > 0)
  frame_padding = (jnp.arange(logits.shape[1])[None, :] >= num_units[:, None]).astype(jnp.float32)
  losses = optax.ctc_loss(logits, frame_padding, phones, 1.0 - valid.astype(jnp.float32), blank_id=logits.shape[-1] - 1)
  counted = jnp.where(possible, num_phones, 0).sum().astype(jnp.float32)
  return jnp.where(possible, losses, 0.0).sum(), jnp.maximum(counted, 1.0)


def _warp_mels(features: Array, amount: Array) -> Array:
  """Returns features whose bin m is bin m * (1 + amount) of the input, interpolated, the ends held."""
  bins = jnp.arange(features.shape[-1], dtype=jnp.float32)
  source = jnp.clip(bins[None, :] * (1.0 + amount[:, None]), 0.0, bins[-1])
  weights = jnp.maximum(0.0, 1.0 - jnp.abs(source[:, None, :] - bins[None, :, None]))
  return jnp.einsum("btm,bmn->btn", features, weights)


def _spans(key: Key, shape: tuple[int, int], *, count: int, longest: int) -> Array:
  """Returns bool [B, T], true inside `count` random spans of up to `longest`."""
  rows, size = shape
  start_key, length_key = jax.random.split(key)
  start = jax.random.uniform(start_key, (rows, count, 1)) * size
  length = jax.random.uniform(length_key, (rows, count, 1)) * longest
  place = jnp.arange(size)
  return ((place >= start) & (place < start + length)).any(1)
