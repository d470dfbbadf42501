"""How each vocoder makes a clip that its critics compare with the recording; models are called by their methods."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from omni_jax.core.arrays import Array, Key, Scalar, Waveform

Metrics = dict[str, tuple[Array, Array]]
_FIRST_FRAMES = 1 << 16  # the noise of a clip begins at any of these frames


class Imitation(NamedTuple):
  """A clip made and the recording of it, and what the generator minimises besides."""

  waveform: Waveform
  target: Waveform
  loss: Scalar
  metrics: Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeakUnits:
  """Unit HiFi-GAN says the units of a clip in their true time; its durations learn beside.

  A batch has `units` [B, U], one for each frame, `waveform` [B, U * hop], `speaker` [B] where there are speakers, and
  for durations the same reduced: `reduced` [B, N], `counts` [B, N] in frames, 0 on padding, and `counted` [B, N], 1 on
  runs that the clip does not cut, thus not on its first and last.

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
    return Imitation(waveform, batch["waveform"], loss, {"duration": (error, counted.sum())})


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
    """Returns the copy; `codes_used` is the share of the slowest quantiser's codes that the batch uses."""
    waveform = batch["waveform"]
    first = jax.random.randint(key, (waveform.shape[0],), 0, _FIRST_FRAMES)
    copied = model.copy(waveform, first=first)
    one, size = jnp.ones(()), model.codebook_size
    used = jnp.zeros(size).at[copied.codes[..., 0]].set(1.0).mean()
    loss = self.codebook * copied.codebook + self.commitment * copied.commitment
    return Imitation(
      waveform=copied.waveform,
      target=waveform,
      loss=loss,
      metrics={
        "codebook": (copied.codebook, one),
        "commitment": (copied.commitment, one),
        "codes_used": (used, one),
      },
    )
