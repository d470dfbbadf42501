"""The sound of a set's turns by index: encoded as it was read, and decoded as far as there is room."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio, decode_pcm, from_pcm, to_pcm
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Turn

_KEPT_SAMPLES = 1 << 29  # of decoded sound in memory, 1 GiB; what comes later is decoded each time


def sounding_turns(sets: Sequence[Path], split: str, *, voices: Sequence[str] = ()) -> list[Turn]:
  """Returns every turn with sound of a split of some sets, of these voices if any are named.

  Raises:
    UserError: there is none.
  """
  sources = [open_set(folder, split) for folder in sets]
  turns = [turn for source in sources for example in source for turn in example.turns if turn.audio]
  turns = [turn for turn in turns if not voices or turn.voice in voices]
  if not turns:
    raise UserError(
      "no sound",
      where=f"{', '.join(map(str, sets))}, split {split}",
      rule=f"some turns hold sound of {', '.join(voices) or 'any voice'}",
      remedy="run `omni corpus` first, or name other voices in the config",
    )
  return turns


class Sounds:
  """The sound of turns by index, at one rate and level; as much of it as fits stays decoded, as 16-bit samples."""

  def __init__(self, turns: Sequence[Turn], *, sample_rate: int = SAMPLE_RATE, peak: float = 0.0):
    """Decodes nothing yet.

    Args:
      turns: each with sound.
      sample_rate: that it is brought to, Hz.
      peak: what the largest sample of a recording is brought to; 0 leaves recordings as they are.
    """
    self._turns, self._sample_rate, self._peak = turns, sample_rate, peak
    self._kept: dict[int, np.ndarray] = {}
    self._room = _KEPT_SAMPLES

  def length(self, which: int) -> int:
    """Returns the number of samples."""
    return len(self._pcm(which))

  def slice(self, which: int, *, start: int, size: int) -> np.ndarray:
    """Returns float32 [size] from sample `start` on, zero past the end."""
    row = np.zeros(size, np.float32)
    pcm = self._pcm(which)[start : start + size]
    row[: len(pcm)] = from_pcm(pcm)
    return row

  def whole(self, which: int) -> np.ndarray:
    """Returns all samples, float32 [A]."""
    return from_pcm(self._pcm(which))

  def _pcm(self, which: int) -> np.ndarray:
    if which in self._kept:
      return self._kept[which]
    pcm = self._decoded(self._turns[which].audio)
    if len(pcm) <= self._room:
      self._kept[which], self._room = pcm, self._room - len(pcm)
    return pcm

  def _decoded(self, audio: bytes) -> np.ndarray:
    if self._sample_rate == SAMPLE_RATE and not self._peak:
      return decode_pcm(audio)
    waveform = decode_audio(audio, sample_rate=self._sample_rate)
    if self._peak:
      waveform = waveform * (self._peak / max(float(np.abs(waveform).max()), 1e-4))
    return to_pcm(waveform)
