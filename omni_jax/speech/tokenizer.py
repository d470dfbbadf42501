"""The speech tokenizer: waveform -> log-mel -> convolutions -> 4-d code of eight levels -> 25 units a second.

The recipe of EMOVA (arXiv 2409.18042, appendix B.1; SPIRAL-FSQ-CTC): a decoder reads phones from the quantised codes
under a CTC loss, so the codes keep what is said and little of who says it or how. The decoder serves training and the
phone error rate only.

Deviations, for a CPU and hours instead of thousands of hours of speech: dense residual convolutions instead of twelve
transformer layers; frames end in zeros instead of a reflection, so a padded batch gives the units of each recording
alone; and what is quantised is not any four-dimensional projection of the state but the mean of the phones' places in
code space, weighted by how likely each phone is in the frame. With a free projection the units wander: they hardly ever
stay for two frames and their perplexity is 1,490, more than a small language model can learn to say; so made they
stay for about a phone, and sounds between two phones have codes between their places (docs/decisions.md).
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni_jax.core.arrays import Array, Codes, Float, Int, Key, Mel, Units, Waveform, typed
from omni_jax.nn.convolution import Convolution, FrameNorm, ResidualConvolution, halve, zero_padding
from omni_jax.nn.parameter import weight
from omni_jax.speech.long_recordings import Spans
from omni_jax.speech.mel import MelConfig, log_mel, normalise
from omni_jax.speech.quantizers import Quantizer
from omni_jax.speech.unit_reader import PhoneUnitReader

_MEL_FRAMES_PER_UNIT = 4  # two convolutions of stride two
_WHOLE_SECONDS, _CONTEXT_SECONDS = 60.0, 5.0  # of a window of a long recording, and of it on each side not kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechTokenizerConfig:
  """Sizes of a speech tokenizer; the CTC blank is phone `num_phones`."""

  mel: MelConfig
  levels: tuple[int, ...]
  num_phones: int
  stem_width: int
  width: int
  depth: int
  taps: int
  decoder_width: int
  decoder_depth: int
  sharpness: float = 1.0  # factor on the phones' log odds before their places are averaged, in training
  reading_sharpness: float = 1.0  # after it: more is closer to one phone, but trains badly

  def __post_init__(self):
    assert self.mel.sample_rate % (self.mel.hop_samples * _MEL_FRAMES_PER_UNIT) == 0, "frame rate must be whole"

  @property
  def quantizer(self) -> Quantizer:
    """The quantiser of the codes."""
    return Quantizer(levels=self.levels)

  def make(self, *, key: Key) -> "SpeechTokenizer":
    """Returns a tokenizer with fresh parameters."""
    return SpeechTokenizer(self, key=key)


class SpeechTokenizer(PhoneUnitReader):
  """Waveform -> units; satisfies `interface.PhoneReader`."""

  together_seconds = 30.0

  def __init__(self, config: SpeechTokenizerConfig, *, key: Key):
    keys = jax.random.split(key, 6)
    self.config = config
    self.stem = Convolution(config.mel.num_mels, config.stem_width, taps=config.taps, stride=2, key=keys[0])
    self.stem_norm = FrameNorm(config.stem_width)
    self.down = Convolution(config.stem_width, config.width, taps=config.taps, stride=2, key=keys[1])
    self.blocks = _blocks(config.width, depth=config.depth, taps=config.taps, key=keys[2])
    self.norm = FrameNorm(config.width)
    self.phone_head = Convolution(config.width, config.num_phones + 1, taps=1, key=keys[3])
    # Variance one spreads the places over all eight levels.
    self.phone_places = weight(keys[4], (config.num_phones + 1, len(config.levels)), axes=(None, None), fan_in=1)
    self.decoder = PhoneDecoder(config, key=keys[5])

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    return self.config.mel.sample_rate

  @property
  def hop(self) -> int:
    """Samples that one unit covers."""
    return self.config.mel.hop_samples * _MEL_FRAMES_PER_UNIT

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return self.config.quantizer.codebook_size

  @typed
  def features(self, waveform: Waveform, samples: Int[Array, "B"]) -> Mel:
    """Returns log-mel frames, each bin with mean 0 and variance 1 over the `samples` of its row, zero after them."""
    return normalise(log_mel(waveform, self.config.mel), self.config.mel.num_frames(samples))

  @typed
  def hidden(self, features: Mel, num_frames: Int[Array, "B"]) -> Float[Array, "B U D"]:
    """Returns the normalised state of each unit frame."""
    num_halves = halve(num_frames)
    num_units = halve(num_halves)
    x = jax.nn.gelu(self.stem_norm(self.stem(zero_padding(features, num_frames))))
    x = self.down(zero_padding(x, num_halves))
    for block in self.blocks:
      x = block(x, num_units)
    return zero_padding(self.norm(x), num_units)

  def frame_phones(self, hidden: Float[Array, "B U D"]) -> Float[Array, "B U K"]:
    """Returns logits of the phone that each frame belongs to, silence last."""
    return self.phone_head(hidden)

  @typed
  def places(self, frame_phones: Float[Array, "B U K"], *, sharpness: float) -> Codes:
    """Returns what is quantised: the mean of the phones' places, weighted by how likely each phone is."""
    return jax.nn.softmax(sharpness * frame_phones) @ self.phone_places[...]

  def read_places(self, hidden: Float[Array, "B U D"]) -> Codes:
    """Returns the places of a recording's states, as sharp as a trained tokenizer reads them."""
    return self.places(self.frame_phones(hidden), sharpness=self.config.reading_sharpness)

  @typed
  def codes(self, waveform: Waveform, samples: Int[Array, "B"]) -> Codes:
    """Returns the quantised code of each unit frame; frames at and after `num_units(samples)` mean nothing."""
    hidden = self.hidden(self.features(waveform, samples), self.config.mel.num_frames(samples))
    return self.config.quantizer.quantise(self.read_places(hidden))

  @typed
  def units(self, waveform: Waveform, samples: Int[Array, "B"]) -> Units:
    """Returns the unit of each frame; those at and after `num_units(samples)` mean nothing."""
    return self.config.quantizer.codes_to_units(self.codes(waveform, samples))

  def phone_logits(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B U K"]:
    """Returns the logits of phones, the blank last, at each unit frame."""
    return self.decoder(self.codes(waveform, samples), self.num_units(samples))

  @property
  def spans(self) -> Spans:
    """Up to a minute is read whole, what is longer in windows of a minute."""
    return Spans.of_seconds(
      hop=self.hop, sample_rate=self.sample_rate, whole_seconds=_WHOLE_SECONDS, context_seconds=_CONTEXT_SECONDS
    )

  def time_batch(self, waveforms: Sequence[np.ndarray], units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns how many frames of 10 ms each reduced unit of each waveform lasts, int32; in all four for each raw unit.

    `units` are those that `encode_batch` returned. A unit is read every 40 ms, so that it says only roughly where it
    begins. Read again from 10, 20 and 30 ms later on, the recording tells it to 10 ms (`unit_frames`).
    """
    rows = self.map(_jit_shifted_codes(), waveforms)
    return [unit_frames(own, codes, quantizer=self.config.quantizer) for own, codes in zip(units, rows, strict=True)]


class PhoneDecoder(nnx.Module):
  """Codes -> phone logits, the blank last."""

  def __init__(self, config: SpeechTokenizerConfig, *, key: Key):
    keys = jax.random.split(key, 3)
    width = config.decoder_width
    self.first = Convolution(len(config.levels), width, taps=config.taps, key=keys[0])
    self.blocks = _blocks(width, depth=config.decoder_depth, taps=config.taps, key=keys[1])
    self.norm = FrameNorm(width)
    self.head = Convolution(width, config.num_phones + 1, taps=1, key=keys[2])

  @typed
  def __call__(self, codes: Codes, num_units: Int[Array, "B"]) -> Float[Array, "B U K"]:
    """Returns phone logits, then the blank's."""
    x = self.first(zero_padding(codes, num_units))
    for block in self.blocks:
      x = block(x, num_units)
    return self.head(self.norm(x))


def _blocks(width: int, *, depth: int, taps: int, key: Key) -> nnx.List:
  # Not a scanned stack: inside a loop XLA's CPU backend differentiates convolutions 50 times slower.
  return nnx.List([ResidualConvolution(width, taps=taps, key=key) for key in jax.random.split(key, depth)])


def unit_frames(units: np.ndarray, codes: np.ndarray, *, quantizer: Quantizer) -> np.ndarray:
  """Returns the frames of 10 ms that each reduced unit lasts, at least one.

  Args:
    units: [U], not reduced.
    codes: [U, 4, E], before rounding: of each unit, and of the same recording read 10, 20 and 30 ms later.
    quantizer: of the units.

  Between two different units the change is put where it makes the three codes in between nearest to their unit:

      unit a | code 1 | code 2 | code 3 | unit b      -> after none, one, two or all of them
  """
  own = np.asarray(quantizer.units_to_codes(jnp.asarray(units)[None])[0])
  last = np.flatnonzero(np.diff(units))  # of each run but the final one
  to_old, to_new = (np.square(codes[last, 1:] - own[unit][:, None]).sum(-1) for unit in (last, last + 1))
  costs = np.stack([to_old[:, :kept].sum(1) + to_new[:, kept:].sum(1) for kept in range(_MEL_FRAMES_PER_UNIT)], 1)
  # A code says what is heard in the middle of its 40 ms: the one after a change of unit, 20 ms after its own start.
  ends = _MEL_FRAMES_PER_UNIT * last + costs.argmin(1) + _MEL_FRAMES_PER_UNIT // 2
  return np.diff(np.append(ends, _MEL_FRAMES_PER_UNIT * len(codes)), prepend=0).astype(np.int32)


def _shifted_codes(model: SpeechTokenizer, waveform: Array, samples: Array) -> tuple[Array, Array]:
  """Returns codes before rounding, [B, U, 4, E], of rows read from 0, 10, 20 and 30 ms on, and the length of each."""
  hop, config = model.config.mel.hop_samples, model.config
  shifts = [shift * hop for shift in range(_MEL_FRAMES_PER_UNIT)]
  later = jnp.concatenate([jnp.pad(waveform[:, shift:], ((0, 0), (0, shift))) for shift in shifts])
  remaining = jnp.concatenate([jnp.maximum(samples - shift, 0) for shift in shifts])
  hidden = model.hidden(model.features(later, remaining), config.mel.num_frames(remaining))
  codes = config.quantizer.bound(model.read_places(hidden)) / config.quantizer.half
  codes = codes.reshape(_MEL_FRAMES_PER_UNIT, waveform.shape[0], *codes.shape[1:])
  return jnp.moveaxis(codes, 0, 2), model.num_units(samples)


@functools.cache
def _jit_shifted_codes():
  return jax.jit(_shifted_codes)
