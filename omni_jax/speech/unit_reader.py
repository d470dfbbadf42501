"""What the tokenizers of one unit a frame do in the same way, whatever hears the recording."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from omni_jax.core.arrays import Array, Float, Units
from omni_jax.speech.long_recordings import Spans, map_units
from omni_jax.speech.streams import Stream, whole_recording
from omni_jax.speech.timing import Timed
from omni_jax.speech.waveform_check import check_recording
from omni_jax.tokens.units import reduce_units

FRAMES_A_SECOND = 100  # of 10 ms, in which durations are told


class UnitReader(Timed, nnx.Module):
  """A tokenizer that sees a whole recording before its first unit; it has `sample_rate`, `hop` and `encode_batch`."""

  num_codebooks = 1

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    raise NotImplementedError

  @property
  def hop(self) -> int:
    """Samples that one unit covers."""
    raise NotImplementedError

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the units of each waveform, equal to those of `encode`; likewise UserError, naming the first bad one."""
    raise NotImplementedError

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns int32 units [ceil(A / hop)] of a float waveform [A] of one channel; silence is a sound like any other.

    Memory is that of one window, however long it is.

    Raises:
      UserError: too few samples, more than one channel, or samples that are no finite numbers.
    """
    return self.encode_batch([waveform])[0]

  def encode_stream(self) -> Stream:
    """Returns a stream that gives all units at its end."""
    return whole_recording(self.encode)

  def time_batch(self, waveforms: Sequence[np.ndarray], units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns how many frames of 10 ms each reduced unit lasts, int32: those of a hop for each time it was read."""
    del waveforms
    return [reduce_units(own)[1] * (FRAMES_A_SECOND * self.hop // self.sample_rate) for own in units]


class PhoneUnitReader(UnitReader):
  """A tokenizer that learned phones through its units and reads long recordings in windows that overlap.

  It has `units`, `num_units` and `phone_logits` of padded rows, and says how recordings are cut and grouped.
  """

  together_seconds = math.inf  # recordings up to this long are read in groups, longer ones alone
  fewest_samples = 1

  @property
  def spans(self) -> Spans:
    """How long recordings are cut."""
    raise NotImplementedError

  def num_units(self, samples: Array) -> Array:
    """Returns the number of units of recordings of `samples` samples."""
    return -(-samples // self.hop)

  def units(self, waveform: Any, samples: Any) -> Units:
    """Returns the unit of each frame; those at and after `num_units(samples)` mean nothing."""
    raise NotImplementedError

  def phone_logits(self, waveform: Any, samples: Any) -> Float[Array, "B U K"]:
    """Returns the logits of phones, the blank last, at each unit frame."""
    raise NotImplementedError

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the units of each waveform, equal to those of `encode`; likewise UserError, naming the first bad one."""
    return self.map(_jit_units(), waveforms)

  def phones_batch(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
    """Returns the phone ids read from each waveform through its units, by greedy CTC decoding."""
    return [greedy_phones(logits) for logits in self.map(_jit_phone_logits(), waveforms)]

  def map(self, function: Callable[..., Any], waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns what a function (self, waveform, samples) -> (rows, number of them) finds at each unit of each one."""
    checked = [
      check_recording(one, where=f"recording {place} to encode", fewest=self.fewest_samples)
      for place, one in enumerate(waveforms)
    ]
    run = functools.partial(function, self)
    return map_units(
      run, checked, spans=self.spans, sample_rate=self.sample_rate, together_seconds=self.together_seconds
    )


def greedy_phones(logits: np.ndarray) -> list[int]:
  """Returns the phones of CTC logits [U, K + 1]: the best of each frame, repeats merged, blanks (K) dropped."""
  best = np.argmax(logits, axis=-1)
  kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
  return [int(phone) for phone in kept if phone != logits.shape[-1] - 1]


@functools.cache
def _jit_units():
  return jax.jit(lambda model, waveform, samples: (model.units(waveform, samples), model.num_units(samples)))


@functools.cache
def _jit_phone_logits():
  return jax.jit(lambda model, waveform, samples: (model.phone_logits(waveform, samples), model.num_units(samples)))
