"""A tokenizer and a vocoder as a codec of several rows: each reduced unit is a frame, each of its digits a code.

A unit of a finite scalar quantiser is a number whose digits, the least significant first, are the places on its axes
(`quantizers`). Read so, EMOVA's 8 x 8 x 8 x 8 units are four rows of eight codes, and any model of several rows speaks
them, each row one column behind the one before it.

    units   1234            8            ...
    codes   2 2 3 2         0 1 0 0      ...    1234 = 2 + 2 * 8 + 3 * 64 + 2 * 512
"""

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.speech.interface import Manner, SpeechStream, SpeechTokenizer, Vocoder
from omni_jax.speech.quantizers import Quantizer
from omni_jax.tokens.units import reduce_units


class UnitCodec:
  """Waveform <-> digits of reduced units, int32 [F, Q]."""

  def __init__(
    self, tokenizer: SpeechTokenizer, vocoder: Vocoder | None, *, quantizer: Quantizer, manner: Manner = None
  ):
    """Keeps the parts.

    Args:
      tokenizer: hears.
      vocoder: speaks; None where only codes are asked for.
      quantizer: of the tokenizer.
      manner: in which the vocoder speaks.

    Raises:
      UserError: digits that do not make the tokenizer's units, or that are not alike.
    """
    levels = quantizer.levels
    if len(set(levels)) != 1 or quantizer.codebook_size != tokenizer.codebook_size:
      raise UserError(
        f"digits of {', '.join(map(str, levels))} places for {tokenizer.codebook_size} units",
        where="codec of units",
        rule="all digits of a unit have one number of places, and together they number the units",
        remedy="choose a tokenizer with a finite scalar quantiser, such as the stage tokenizer",
      )
    self._tokenizer, self._vocoder, self._manner = tokenizer, vocoder, manner
    self._basis = quantizer.basis
    self.codebook_size, self.num_codebooks = levels[0], len(levels)

  @property
  def sample_rate(self) -> int:
    """Samples a second of the waveforms it takes; its vocoder has a rate of its own."""
    return self._tokenizer.sample_rate

  @property
  def vocoder(self) -> Vocoder:
    """What speaks."""
    assert self._vocoder is not None, "this codec only hears"
    return self._vocoder

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns the codes of a waveform [A]; UserError as for the tokenizer."""
    return self.codes(reduce_units(self._tokenizer.encode(waveform))[0])

  def decode(self, codes: np.ndarray, manner: Manner = None) -> np.ndarray:
    """Returns the waveform float32 [A] of codes [F, Q], in this manner or its own; durations are the vocoder's.

    Raises:
      UserError: codes of another shape or out of range.
    """
    units = reduce_units(self.units(codes))[0]
    return np.asarray(self.vocoder.decode(units, manner or self._manner), np.float32)

  def stream(self, manner: Manner = None, *, chunk_frames: int = 1) -> "UnitCodecStream":
    """Returns a stream of the same voice; the vocoder decides how much comes at once, so `chunk_frames` is not used."""
    del chunk_frames
    return UnitCodecStream(self, self.vocoder.stream(manner or self._manner))

  def codes(self, units: np.ndarray) -> np.ndarray:
    """Returns the digits int32 [F, Q] of units [F]."""
    return (np.asarray(units)[:, None] // self._basis % self.codebook_size).astype(np.int32)

  def units(self, codes: np.ndarray) -> np.ndarray:
    """Returns the units int32 [F] of digits [F, Q].

    Raises:
      UserError: codes of another shape or out of range.
    """
    codes = np.asarray(codes)
    is_whole = codes.ndim == 2 and codes.shape[1] == self.num_codebooks and np.issubdtype(codes.dtype, np.integer)
    if not is_whole or (codes < 0).any() or (codes >= self.codebook_size).any():
      raise UserError(
        f"codes of shape {codes.shape} and type {codes.dtype}"
        + (f", from {codes.min()} to {codes.max()}" if codes.size else ""),
        where="codec of units",
        rule=f"a frame is {self.num_codebooks} whole numbers from 0 to {self.codebook_size - 1}",
        remedy="leave out the ids of padding and of ends before decoding",
      )
    return (codes @ self._basis).astype(np.int32)


class UnitCodecStream:
  """Codes to sound while they arrive; equal units in a row are one."""

  def __init__(self, codec: UnitCodec, voice: SpeechStream):
    self._codec, self._voice = codec, voice
    self._last = np.zeros(0, np.int32)

  def push(self, codes: np.ndarray) -> np.ndarray:
    """Returns the samples that are final now."""
    units = self._codec.units(codes)
    known = len(self._last)
    reduced = reduce_units(np.concatenate([self._last, units]))[0][known:]
    self._last = units[-1:] if len(units) else self._last
    return self._voice.push(reduced) if len(reduced) else np.zeros(0, np.float32)

  def finish(self) -> np.ndarray:
    """Returns the rest."""
    return self._voice.finish()
