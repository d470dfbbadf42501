"""The loss of an encoder that learns to tell phones (`speech.phone_reader`); the model is called, not imported."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar
from omni_jax.train.alignment import align, at_labels

Metrics = dict[str, tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class PhoneReading:
  """Negative log likelihood of an utterance's phones over all ways to lay its frames under them.

  Every frame belongs to a phone, so that what is learned is not the place of a phone alone, as under CTC, but its
  sound: a language model that starts to listen finds phones in every vector.
  """

  def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> tuple[Scalar, Metrics]:
    """Returns the loss of a frame and its parts as (sum, count), of a batch from `batches.utterances`."""
    del key
    log_probs = jax.nn.log_softmax(model(batch["waveform"]).astype(jnp.float32))
    num_frames = model.num_frames(batch["samples"])
    occupancy, labels = align(log_probs, num_frames, phones=batch["phones"], num_phones=batch["num_phones"])
    count = jnp.maximum(occupancy.sum(), 1.0)
    loss = -(occupancy * at_labels(log_probs, labels)).sum()
    right = (occupancy * (log_probs.argmax(-1)[..., None] == labels[:, None, :])).sum()
    return loss / count, {"frames": (loss, count), "accuracy": (right, count)}
