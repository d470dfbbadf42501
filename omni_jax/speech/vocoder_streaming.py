"""From a trained network to sound, whole or while units arrive; both give the same samples.

Every piece is computed in a window of static shape that holds its full context (`units_behind`, `units_ahead`,
`frames_around`), so a stream compiles three functions once and its cost does not grow with what was said before.
A unit sounds once `units_ahead` more units are known, `frames_around` frames later.

    units   |-- behind --|== new ==|- ahead -|
    frames          |-- around --|== new ==|-- around --|
    samples                      |== final ==|~ tail ~|    the tail is kept and added to the next piece
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech import frames as time
from omni_jax.speech import istft

_UNIT_WINDOW = 128
_FRAME_WINDOW = 256
_LAID_UNITS = _FRAME_WINDOW // time.FEWEST_FRAMES + 1  # as many as can have frames in a window
_SMALLEST = 32
_UNITS_PER_SECOND = 25  # durations are in units of 40 ms


class _Compiled(NamedTuple):
  read: Any
  shape: Any
  speak: Any


class _Waiting(NamedTuple):
  """Frames whose filters are known and that do not sound yet, without the batch axis."""

  f0_hz: np.ndarray
  harmonic: np.ndarray
  noise: np.ndarray


@functools.cache
def _compiled() -> _Compiled:
  def read(network, units, valid, styles):
    return network.read(units, valid, styles)

  def shape(network, hidden, counts, first, styles, *, num_frames):
    return network.shape(hidden, time.lay_out(counts, first, num_frames), styles)

  def speak(features, controls, phase, first):
    return time.speak(features, controls, phase=phase, first=first)

  return _Compiled(jax.jit(read), jax.jit(shape, static_argnames="num_frames"), jax.jit(speak))


def seconds(network: Any, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
  """Returns how long each row of reduced units [U] lasts in its style, before frames are rounded to 10 ms each."""
  longest = max([len(row) for row in units], default=0)
  shape = tuple(1 << (max(size, _SMALLEST) - 1).bit_length() for size in (len(units), longest))
  padded, valid, places = np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros((shape[0], 3), np.int32)
  for number, (row, style) in enumerate(zip(units, styles, strict=True)):
    padded[number, : len(row)], valid[number, : len(row)], places[number] = row, 1.0, style.indices
  durations = _compiled().read(network, padded, valid, places).durations
  return [float(total) for total in np.asarray(durations).sum(axis=1)[: len(units)] / _UNITS_PER_SECOND]


def decode(network: Any, units: np.ndarray, style: Style) -> np.ndarray:
  """Returns the waveform, float32 [A] at 16 kHz, of reduced units [U]; shapes are rounded up to powers of two."""
  units = check_units(units, codebook_size=network.config.codebook_size)
  if not len(units):
    raise UserError("no units", where="vocoder", rule="there is something to say", remedy="give at least one unit")
  styles = np.array([style.indices], np.int32)
  size = _rounded(len(units))
  read = _compiled().read(network, _pad(units, size)[None], _pad(np.ones(len(units), np.float32), size)[None], styles)
  counts = time.FrameClock().counts(np.asarray(read.durations[0, : len(units)]))
  total = int(counts.sum())
  first = np.zeros(1, np.int32)
  num_frames = _rounded(total)
  features = _compiled().shape(network, read.hidden, _pad(counts, size)[None], first, styles, num_frames=num_frames)
  f0 = np.array(features.f0_hz)
  f0[:, total:] = f0[:, total - 1]
  controls = np.concatenate([f0[:, :1], f0, f0[:, -1:]], axis=1)
  samples = _compiled().speak(features, controls, np.zeros(1, np.float32), first).samples
  return np.array(samples[0, istft.HOP // 2 : istft.HOP // 2 + total * istft.HOP])


class VocoderStream:
  """Speaks units as they come: `push` returns what is final, `finish` the rest."""

  def __init__(self, network: Any, style: Style):
    self._network, self._styles = network, np.array([style.indices], np.int32)
    config = network.config
    self._behind, self._ahead, self._around = config.units_behind, config.units_ahead, config.frames_around
    assert self._behind + self._ahead < _UNIT_WINDOW, "the context of a unit fits the window"
    assert 2 * self._around < _FRAME_WINDOW, "the context of a frame fits the window"
    self._units = np.zeros(0, np.int32)
    self._hidden = np.zeros((0, config.frame_width), np.float32)
    self._counts = np.zeros(0, np.int32)
    self._clock = time.FrameClock()
    self._shaped = 0  # frames whose filters are known
    self._pending: list[_Waiting] = []  # of these, those not yet sounding
    self._spoken, self._phase, self._last_hz = 0, np.zeros(1, np.float32), None
    self._tail = np.zeros(0, np.float32)
    self._finished = False

  def push(self, units: np.ndarray) -> np.ndarray:
    """Returns the samples that are final now that these units are known; may be empty.

    Raises:
      UserError: a unit outside the codebook, or the stream was finished.
    """
    if self._finished:
      raise UserError(
        "units after the end", where="vocoder stream", rule="a finished stream is over", remedy="start a new stream"
      )
    units = check_units(units, codebook_size=self._network.config.codebook_size)
    self._units = np.concatenate([self._units, units])
    return self._advance(len(self._units) - self._ahead)

  def finish(self) -> np.ndarray:
    """Returns the remaining samples; all pieces together equal `decode` of all units."""
    if self._finished:
      return np.zeros(0, np.float32)
    self._finished = True
    samples = self._advance(len(self._units))
    if not self._spoken:
      return samples
    return np.concatenate([samples, self._tail[: istft.HOP // 2]])

  def _advance(self, ready_units: int) -> np.ndarray:
    self._read(ready_units)
    last = int(self._counts.sum())
    self._shape(last if self._finished else last - self._around)
    # The line of F0 after a frame needs the next frame, unless there is none.
    pieces, end = [np.zeros(0, np.float32)], self._shaped - (0 if self._finished else 1)
    while self._spoken < end:
      pieces.append(self._speak(min(end - self._spoken, _FRAME_WINDOW)))
    return np.concatenate(pieces)

  def _read(self, ready: int) -> None:
    while len(self._counts) < ready:
      start = max(0, len(self._counts) - self._behind)
      window = self._units[start : start + _UNIT_WINDOW]
      end = min(ready, start + _UNIT_WINDOW - self._ahead) if start + _UNIT_WINDOW < len(self._units) else ready
      valid = _pad(np.ones(len(window), np.float32), _UNIT_WINDOW)
      read = _compiled().read(self._network, _pad(window, _UNIT_WINDOW)[None], valid[None], self._styles)
      fresh = slice(len(self._counts) - start, end - start)
      self._hidden = np.concatenate([self._hidden, np.asarray(read.hidden[0])[fresh]])
      self._counts = np.concatenate([self._counts, self._clock.counts(np.asarray(read.durations[0])[fresh])])

  def _shape(self, ready: int) -> None:
    ends = np.cumsum(self._counts)
    while self._shaped < ready:
      first = max(0, self._shaped - self._around)
      unit = int(np.searchsorted(ends, first, side="right"))
      begin = int(ends[unit] - self._counts[unit])
      laid = slice(unit, unit + _LAID_UNITS)
      hidden, counts = _pad(self._hidden[laid], _LAID_UNITS)[None], _pad(self._counts[laid], _LAID_UNITS)[None]
      offset = np.array([first - begin], np.int32)
      features = _compiled().shape(self._network, hidden, counts, offset, self._styles, num_frames=_FRAME_WINDOW)
      end = min(ready, first + _FRAME_WINDOW - self._around)
      fresh = slice(self._shaped - first, end - first)
      self._pending.append(_Waiting(*(np.asarray(part[0])[fresh] for part in features)))
      self._shaped = end

  def _speak(self, count: int) -> np.ndarray:
    f0, harmonic, noise = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
    before = f0[0] if self._last_hz is None else self._last_hz
    after = f0[count] if count < len(f0) else f0[-1]
    controls = np.full(_FRAME_WINDOW + 2, after, np.float32)
    controls[0], controls[1 : count + 1] = before, f0[:count]
    now = (controls[1:-1], _silence(harmonic[:count]), _silence(noise[:count]))
    now = time.FrameFeatures(*(jnp.asarray(part)[None] for part in now))
    sound = _compiled().speak(now, controls[None], self._phase, np.array([self._spoken], np.int32))
    samples = np.array(sound.samples[0, : count * istft.HOP + istft.TAIL])
    samples[: len(self._tail)] += self._tail
    self._tail = samples[count * istft.HOP :]
    start = istft.HOP // 2 if self._spoken == 0 else 0
    self._phase, self._last_hz = np.asarray(sound.phases[:, count]), f0[count - 1]
    self._spoken += count
    self._pending = [_Waiting(f0[count:], harmonic[count:], noise[count:])]
    return samples[start : count * istft.HOP]


def check_units(units: np.ndarray, *, codebook_size: int) -> np.ndarray:
  """Returns `units` as int32 [U].

  Raises:
    UserError: not a row of whole numbers, or one outside the codebook.
  """
  units = np.asarray(units)
  if units.ndim != 1 or (units.size and not np.issubdtype(units.dtype, np.integer)):
    raise UserError(
      f"units of shape {units.shape} and type {units.dtype}",
      where="vocoder",
      rule="units are one row of whole numbers",
      remedy="pass the reduced units of one utterance",
    )
  outside = units[(units < 0) | (units >= codebook_size)]
  if outside.size:
    raise UserError(
      f"unit {int(outside[0])}",
      where="vocoder",
      rule=f"units lie within 0..{codebook_size - 1}",
      remedy="use units of the tokenizer that this vocoder was trained with",
    )
  return units.astype(np.int32)


def _pad(rows: np.ndarray, size: int) -> np.ndarray:
  return np.pad(rows, ((0, size - len(rows)),) + ((0, 0),) * (rows.ndim - 1))


def _silence(bands: np.ndarray) -> np.ndarray:
  return np.pad(bands, ((0, _FRAME_WINDOW - len(bands)), (0, 0)), constant_values=time.SILENT)


def _rounded(size: int) -> int:
  return max(_SMALLEST, 1 << (size - 1).bit_length())
