"""Whole utterances with their units, for a voice that finds by itself how long each unit lasts (VITS).

Utterances are sorted into a few lengths (`utterances.Bucket`), since every part of the model but its last hears them
whole; their sound is cut to whole frames.
"""

import dataclasses

import grain
import numpy as np

from omni_jax.batches.dealing import deal
from omni_jax.batches.sounds import Sounds
from omni_jax.batches.spoken import Spoken, SpokenSets, spoken_turns
from omni_jax.batches.utterances import NO_STYLE, Bucket, Buckets
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitUtterances(SpokenSets):
  """Which utterances, and how they are dealt.

  Attributes:
    sample_rate: of the voice, Hz.
    hop_samples: of a frame.
    max_units: reduced units of an utterance at most.
    least_frames: frames of an utterance at least: a segment of them is made to sound.
    buckets: in rising order of length.
    peak: what the largest sample of a recording is brought to; 0 leaves recordings as they are.
    seed: of the shuffling.
  """

  sample_rate: int
  hop_samples: int
  max_units: int
  least_frames: int
  buckets: tuple[Bucket, ...]
  peak: float = 0.0
  seed: int = 0

  def open(self) -> grain.IterDataset:
    """Returns endless batches of rows that are zero past their end.

    units: int32 [B, U], reduced, and num_units [B]; waveform: float32 [B, T * hop], and num_frames int32 [B]; style:
    int32 [B, 3], the places of gender, emotion and pitch, -1 where the record states none.

    Raises:
      UserError: no utterance of these voices, a set and its twin differ, or an utterance of another length than stated.
    """
    return deal(_BatchSource(self))


class _BatchSource:
  """Batch i, for any i; `len` is only an upper bound that no run reaches."""

  def __init__(self, config: UnitUtterances):
    self._config = config
    found = spoken_turns(config, frames_per_unit=1)  # nobody asks how long
    turns, self._said = [one for one, _ in found], [said for _, said in found]
    self._sounds = Sounds(turns, sample_rate=config.sample_rate, peak=config.peak)
    lengths = np.array([self._sounds.length(which) for which in range(len(turns))])
    self._frames = (lengths // config.hop_samples).astype(np.int32)
    styles = [one.turn.style for one in turns]
    self._styles = np.array([Style.parse(style).indices if style else NO_STYLE for style in styles], np.int32)
    _check(self._said, self._frames, config)
    where, samples = ", ".join(map(str, config.corpus)), self._frames * config.hop_samples
    self._buckets = Buckets(samples, config.buckets, sample_rate=config.sample_rate, seed=config.seed, where=where)

  def __len__(self) -> int:
    return 2**31 - 1

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    config, (bucket, members) = self._config, self._buckets[int(index)]
    size = -(-round(bucket.seconds * config.sample_rate) // config.hop_samples) * config.hop_samples
    waveform = np.zeros((len(members), size), np.float32)
    units = np.zeros((len(members), config.max_units), np.int32)
    for row, member in enumerate(members.tolist()):
      whole = int(self._frames[member]) * config.hop_samples
      waveform[row, :whole] = self._sounds.slice(member, start=0, size=whole)
      units[row, : len(self._said[member].units)] = self._said[member].units
    return {
      "units": units,
      "num_units": np.array([len(self._said[member].units) for member in members.tolist()], np.int32),
      "waveform": waveform,
      "num_frames": self._frames[members],
      "style": self._styles[members],
    }


def _check(said: list[Spoken], frames: np.ndarray, config: UnitUtterances) -> None:
  """Raises a UserError if an utterance has too many units, or fewer frames than a segment or than units."""
  for place, (one, num_frames) in enumerate(zip(said, frames.tolist(), strict=True)):
    least = max(config.least_frames, len(one.units))
    if not 1 <= len(one.units) <= config.max_units or num_frames < least:
      raise UserError(
        f"utterance {place} has {len(one.units)} reduced units and {num_frames} frames of {config.hop_samples} samples",
        where=", ".join(map(str, config.corpus)),
        rule=f"1 to {config.max_units} units, at least {config.least_frames} frames and one for each unit",
        remedy="raise max_units, shorten the segment, or leave such recordings out of the corpus",
      )
