"""HuBERT's loss: the classes of frames that were hidden, told from the frames around them (arXiv 2106.07447).

The model is called by its methods, not imported: `student`, `labeller` and `logits` of `speech.hubert_pretraining`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from omni_jax.core.arrays import Array, Key, Scalar, Sums
from omni_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedPrediction:
  """Cross entropy of the masked frames, and a little that keeps the stem's features small.

  Attributes:
    span_share: of the frames begin a masked span; 0.08 in HuBERT, of spans that may overlap. Deviation: each frame
      begins one with this probability, instead of a fixed number of spans in a recording.
    span_frames: length of a span; 10 in HuBERT.
    unmasked: weight of the frames that were not masked; 0 in HuBERT.
    penalty: weight of the mean square of the stem's features; 10 in HuBERT.
    stem_rate: factor on the gradient that reaches the stem; 0.1 in HuBERT base, 1 in large.
  """

  span_share: float = 0.08
  span_frames: int = 10
  unmasked: float = 0.0
  penalty: float = 10.0
  stem_rate: float = 0.1

  def __post_init__(self):
    if not 0 < self.span_share <= 1 or self.span_frames < 1 or min(self.unmasked, self.penalty, self.stem_rate) < 0:
      raise UserError(
        f"{self}",
        where="loss of masked prediction",
        rule="span_share is above 0 and at most 1, span_frames at least 1, weights are not negative",
        remedy="change the one out of range",
      )

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Sums]:
    """Returns the loss of a batch with `waveform` [B, A] and `samples` [B], and its parts as (sum, count)."""
    waveform, samples, student = batch["waveform"], batch["samples"], model.student
    num_frames = student.config.num_frames(samples)
    stem = student.frames(waveform, samples)
    valid = jnp.arange(stem.shape[1])[None, :] < num_frames[:, None]
    labels = jax.lax.stop_gradient(model.labeller.units(waveform, samples))[:, : stem.shape[1]]
    masked = self.spans(key, valid.shape) & valid
    projected = student.project(_slowed(stem, self.stem_rate))
    logits = model.logits(student.contextual(student.mask(projected, masked), num_frames))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hidden, seen = ((losses * where).sum() for where in (masked, valid & ~masked))
    num_masked, num_seen, num_valid = (jnp.maximum(where.sum(), 1) for where in (masked, valid & ~masked, valid))
    squares = jnp.square(stem.astype(jnp.float32)).sum()  # zero past the ends
    size = num_valid * stem.shape[-1]
    loss = hidden / num_masked + self.unmasked * seen / num_seen + self.penalty * squares / size
    best = logits.argmax(-1)
    metrics = {
      "masked": (hidden, num_masked),
      "seen": (seen, num_seen),
      "accuracy": ((masked & (best == labels)).sum(), num_masked),
      "masked_share": (masked.sum(), num_valid),
      "stem_square": (squares, size),
      "classes_told": (_num_different(best, masked, logits.shape[-1]), jnp.ones(())),
      "classes_right": (_num_different(labels, masked, logits.shape[-1]), jnp.ones(())),
    }
    return loss, metrics

  def spans(self, key: Key, shape: tuple[int, int]) -> Array:
    """Returns bool [B, T], true in spans of `span_frames` that begin at random frames."""
    begins = jax.random.bernoulli(key, self.span_share, shape).astype(jnp.int32)
    so_far = jnp.cumsum(begins, axis=1)
    before = jnp.pad(so_far, ((0, 0), (self.span_frames, 0)))[:, : shape[1]]
    return so_far > before


def _slowed(x: Array, rate: float) -> Array:
  """Returns `x`, whose gradient is `rate` times what comes back."""
  return rate * x + jax.lax.stop_gradient((1 - rate) * x)


def _num_different(classes: Array, where: Array, num_classes: int) -> Array:
  """Returns how many classes there are among those of the frames `where` is true: one alone is a collapse."""
  counts = jnp.zeros(num_classes).at[classes].add(where.astype(jnp.float32))
  return (counts > 0).sum()
