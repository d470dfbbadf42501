"""Training EMOVA's speech-to-unit model; the model is called by its methods, not imported.

Pre-training follows `ST2VecEncoder` of the EMOVA speech tokenizer (SPIRAL, arXiv 2201.10207). Its masks and shifts are
drawn here with static shapes: spans may begin at the same frame, and a shifted row is as long as the longest shift.
Fine-tuning follows the EMOVA speech tokenizer (`vq_ctc_finetune.py`, arXiv 2409.18042, appendix B.1): phones are read
from the quantised codes, and the CTC loss alone shapes encoder, bottleneck and reader from the first step on.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar, Sums
from omni_jax.core.config import added
from omni_jax.train.speech_losses import ctc_sum
from omni_jax.train.unit_health import code_use, phone_errors

_SAME = 1e-6  # targets whose cosine is this near to 1 are one target, as in two frames of silence


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhoneLoss:
  """CTC on phones read through the quantiser, summed over each recording and averaged over the batch.

  Attributes:
    dropout: whether values and layers are left out; the original does so.
    probe: weight of the same loss read before the bottleneck, for a model whose config has a probe. An encoder without
      pre-training needs it: through an untrained code of four numbers CTC stays silent, or ends at one unit for all.
  """

  dropout: bool = True
  probe: float = added(0.0)

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of a batch from `batches.utterances`.

    Metrics, as (sum, count): `ctc` nats for each phone, and `probe` likewise; `changes` of unit for each unit frame,
    which times 25 are the reduced units a second; `units_used` and `perplexity` of the units of the batch; and the
    `phone_errors` of its reading, for each phone. Rows that are not `learned` count in `held_out_errors` instead (with
    dropout, like all others).
    """
    config, samples = model.config, batch["samples"]
    dither, encoder, reader = jax.random.split(key, 3)
    encoder, reader = (encoder, reader) if self.dropout else (None, None)
    features = jax.lax.stop_gradient(model.features(batch["waveform"], samples, key=dither))
    hidden = model.hidden(features, config.mel.num_frames(samples), key=encoder)
    codes = config.quantizer.quantise(model.places(hidden))
    num_units = model.num_units(samples)
    logits = model.reader(codes, num_units, key=reader)
    learned = batch.get("learned", jnp.ones(samples.shape, bool))
    phones = {"phones": batch["phones"], "num_phones": jnp.where(learned, batch["num_phones"], 0)}
    ctc, num_phones = ctc_sum(logits, num_units, **phones)
    changed = (codes[:, 1:] != codes[:, :-1]).any(-1) & (jnp.arange(1, codes.shape[1]) < num_units[:, None])
    metrics = {"ctc": (ctc, num_phones), "changes": (changed.sum().astype(jnp.float32), num_units.sum())}
    metrics |= code_use(config.quantizer.codes_to_units(codes), num_units, size=config.quantizer.codebook_size)
    metrics["phone_errors"] = phone_errors(logits, num_units, **phones)
    if "learned" in batch:
      phones_held = phones | {"num_phones": jnp.where(learned, 0, batch["num_phones"])}
      metrics["held_out_errors"] = phone_errors(logits, num_units, **phones_held)
    total = ctc
    if self.probe:
      early, _ = ctc_sum(model.probe(hidden), num_units, **phones)
      total, metrics["probe"] = ctc + self.probe * early, (early, num_phones)
    return total / learned.sum(), metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveLoss:
  """Cosine of prediction and teacher at a frame, against the teacher at other frames of the same recording.

  Attributes:
    temperature: cosines are divided by it.
    negatives: other frames for each frame, drawn with replacement.
    time_share, time_frames: masked spans are this long, and as many as would cover this share without overlap.
    mel_share, mel_bins: likewise along the mel axis, where what is masked is zero.
    most_shift: largest padding before and after the teacher's recording, in vectors of the encoder.
    mask_deviation: of the fixed Gaussian vector that stands for a masked frame.
  """

  temperature: float = 0.3
  negatives: int = 100
  time_share: float = 0.5
  time_frames: int = 20
  mel_share: float = 0.4
  mel_bins: int = 20
  most_shift: int = 16
  mask_deviation: float = 0.01

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of a batch of `waveform` and `samples`; `accuracy` is how often the right frame is nearest."""
    config, samples = model.config, batch["samples"]
    dither, masks, shifts, student, teacher, draws = jax.random.split(key, 6)
    num_frames, stride = config.mel.num_frames(samples), config.encoder.stride
    features = jax.lax.stop_gradient(model.features(batch["waveform"], samples, key=dither))
    guesses = model.predict(self.mask(features, num_frames, key=masks), num_frames, key=student)
    shifted, lengths, before = self.shift(features, num_frames, unit=stride, key=shifts)
    targets = model.targets(shifted, lengths, key=teacher)
    targets = jax.lax.dynamic_slice_in_dim(targets, before, guesses.shape[1], axis=1)
    return self.contrast(guesses, targets, -(-num_frames // stride), key=draws)

  def mask_vector(self, bins: int) -> Array:
    """Returns what stands for a masked frame, [M]: always the same."""
    return self.mask_deviation * jax.random.normal(jax.random.key(0), (bins,))

  def mask(self, features: Array, num_frames: Array, *, key: Key) -> Array:
    """Returns frames [B, T, M] with spans of time replaced and spans of bins zero."""
    rows, frames, bins = features.shape
    time_key, mel_key = jax.random.split(key)
    in_time = _fixed_spans(time_key, num_frames, size=frames, share=self.time_share, length=self.time_frames)
    in_mel = _fixed_spans(mel_key, jnp.full(rows, bins), size=bins, share=self.mel_share, length=self.mel_bins)
    features = jnp.where(in_time[..., None], self.mask_vector(bins), features)
    return jnp.where(in_mel[:, None], 0.0, features)

  def shift(self, features: Array, num_frames: Array, *, unit: int, key: Key) -> tuple[Array, Array, Array]:
    """Returns frames [B, T + 2 most_shift unit, M] that begin later, their lengths, and by how many units they do.

    Before and after the recording stand masked frames; all rows are shifted alike, by whole units.
    """
    before, after = jax.random.randint(key, (2,), 0, self.most_shift + 1)
    room = 2 * self.most_shift * unit
    moved = jnp.roll(jnp.pad(features, ((0, 0), (0, room), (0, 0))), before * unit, axis=1)
    place = jnp.arange(moved.shape[1])[None]
    ends = num_frames[:, None] + before * unit
    lengths = ends + after * unit
    masked = (place < before * unit) | ((place >= ends) & (place < lengths))
    return jnp.where(masked[..., None], self.mask_vector(features.shape[2]), moved), lengths[:, 0], before

  def contrast(self, guesses: Array, targets: Array, lengths: Array, *, key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of vectors [B, U, E] over the `lengths` of rows with at least two of them."""
    rows, units, _ = guesses.shape
    guesses, targets = _unit_length(guesses), _unit_length(targets)
    cosines = jnp.einsum("bte,bse->bts", guesses, targets)
    alike = jnp.einsum("bte,bse->bts", targets, targets) > 1 - _SAME
    others = jnp.maximum(lengths - 1, 1)[:, None, None]
    drawn = jnp.floor(jax.random.uniform(key, (rows, units, self.negatives)) * others).astype(jnp.int32)
    drawn = jnp.minimum(drawn, others - 1)
    drawn = jnp.minimum(drawn + (drawn >= jnp.arange(units)[None, :, None]), units - 1)
    positive = jnp.diagonal(cosines, axis1=1, axis2=2)[..., None] / self.temperature
    negative = jnp.take_along_axis(cosines, drawn, axis=-1) / self.temperature
    negative = jnp.where(jnp.take_along_axis(alike, drawn, axis=-1), -jnp.inf, negative)
    valid = (jnp.arange(units)[None] < lengths[:, None]) & (lengths > 1)[:, None]
    losses = jax.nn.logsumexp(jnp.concatenate([positive, negative], axis=-1), axis=-1) - positive[..., 0]
    right = (positive > negative).all(-1)
    count = jnp.maximum(valid.sum(), 1).astype(jnp.float32)
    total = jnp.where(valid, losses, 0.0).sum()
    return total / count, {
      "contrastive": (total, count),
      "accuracy": ((right & valid).sum().astype(jnp.float32), count),
    }


def _fixed_spans(key: Key, sizes: Array, *, size: int, share: float, length: int) -> Array:
  """Returns bool [B, size], true inside spans of `length`; about `share * sizes / length` of them within each row."""
  most = int(share * size / length) + 1
  start_key, round_key = jax.random.split(key)
  count = jnp.floor(share * sizes / length + jax.random.uniform(round_key, sizes.shape))
  room = jnp.maximum(sizes - length, 1)[:, None]
  starts = jnp.floor(jax.random.uniform(start_key, (sizes.shape[0], most)) * room)
  place = jnp.arange(size)
  inside = (place >= starts[..., None]) & (place < starts[..., None] + length)
  return (inside & (jnp.arange(most)[None] < count[:, None])[..., None]).any(1) & (place < sizes[:, None])


def _unit_length(x: Array) -> Array:
  return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
