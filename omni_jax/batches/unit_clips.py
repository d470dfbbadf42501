"""Clips for vocoders that learn against critics: a unit for each frame with its sound, or sound alone.

    frames     |== clip ==|        units, one for each frame, and `hop_samples` of sound for each
    reduced  --|==========|--      the runs that sound, whole, and a few around them that are only seen

Durations are of whole runs, whatever the clip cuts of them: the utterance is known. Records hold sound at any rate; it
is brought to that of the vocoder.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import grain
import numpy as np

from omni_jax.batches.dealing import ClipSource, Row, deal
from omni_jax.batches.sounds import Sounds, sounding_turns
from omni_jax.batches.spoken import Spoken, SpokenSets, spoken_turns
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.prepare.schema import Turn

SPEAKERS = ("", "voices", "styles")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitClips(SpokenSets):
  """Which utterances, and how they are cut.

  Attributes:
    rows: clips in a batch.
    sample_rate: of the vocoder, Hz.
    hop_samples: of a frame.
    frames_per_unit: frames of one repetition of a unit; 1 where the vocoder has the tokenizer's rate. None: units last
      as long as was found in encoding, in frames of 10 ms (`spoken`).
    clip_frames: frames of a clip.
    units_around: reduced units that are seen on each side of those that sound, the duration predictor's context.
    speakers: what the rows of the vocoder's table of speakers are: the `voices` named, the 24 `styles`, or "" none.
    peak: what the largest sample of a recording is brought to; 0 leaves recordings as they are.
    seed: of the dealing.
  """

  rows: int
  sample_rate: int
  hop_samples: int
  frames_per_unit: int | None
  clip_frames: int
  units_around: int
  speakers: str = ""
  peak: float = 0.0
  seed: int = 0

  def __post_init__(self):
    if self.speakers not in SPEAKERS:
      raise UserError(
        f"speakers {self.speakers!r}",
        where="unit clips",
        rule=f"one of {', '.join(map(repr, SPEAKERS))}",
        remedy="choose one of these",
      )
    if self.frames_per_unit is None and self.hop_samples * 100 != self.sample_rate:
      raise UserError(
        f"frames of {self.hop_samples} samples at {self.sample_rate} Hz",
        where="unit clips, hop_samples",
        rule="where durations are those found in encoding, a frame lasts 10 ms",
        remedy="take a vocoder of 100 frames a second, or say how many frames a unit has (frames_per_unit)",
      )

  def open(self) -> grain.IterDataset:
    """Returns endless batches, as `imitations.SpeakUnits` takes them.

    units: int32 [B, T], one for each frame; waveform: float32 [B, T * hop]; reduced, counts: int32 [B, N], reduced
    units and the frames of each, 0 on padding; counted: float32 [B, N], 1 on those that sound; speaker: int32 [B].

    Raises:
      UserError: no utterance of these voices, a set and its twin differ, or a turn without a style where these speak.
    """
    clips = _UnitClips(self)
    return deal(ClipSource(len(clips.turns), rows=self.rows, seed=self.seed, cut=clips.cut))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundClips:
  """Which recordings, and how they are cut.

  Attributes:
    corpus: folders of record sets with sound.
    split: of each set.
    voices: only turns of these voices are used; () uses all.
    rows: clips in a batch.
    sample_rate: of the codec, Hz.
    clip_samples: of a clip, whole frames of the codec.
    peak: what the largest sample of a recording is brought to; 0 leaves recordings as they are.
    seed: of the dealing.
  """

  corpus: tuple[Path, ...]
  split: str
  voices: tuple[str, ...] = ()
  rows: int
  sample_rate: int
  clip_samples: int
  peak: float = 0.0
  seed: int = 0

  def open(self) -> grain.IterDataset:
    """Returns endless batches of `waveform` float32 [B, A]; a short recording is followed by silence.

    Raises:
      UserError: no recording of these voices.
    """
    turns = sounding_turns(self.corpus, self.split, voices=self.voices)
    sounds = Sounds(turns, sample_rate=self.sample_rate, peak=self.peak)

    def cut(which: int, draw: Callable[[int], int]) -> Row:
      start = draw(max(0, sounds.length(which) - self.clip_samples) + 1)
      return {"waveform": sounds.slice(which, start=start, size=self.clip_samples)}

    return deal(ClipSource(len(turns), rows=self.rows, seed=self.seed, cut=cut))


class _UnitClips:
  """Utterances and how a row is cut from one."""

  def __init__(self, config: UnitClips):
    self._config = config
    self.turns = spoken_turns(config, frames_per_unit=config.frames_per_unit)
    turns = [one for one, _ in self.turns]
    self._sounds = Sounds(turns, sample_rate=config.sample_rate, peak=config.peak)
    self._speakers = [_speaker(one.turn, config) for one in turns] if config.speakers else None

  def cut(self, which: int, draw: Callable[[int], int]) -> Row:
    """Returns a row."""
    config, said = self._config, self.turns[which][1]
    frames = np.repeat(said.units, said.counts)[:, None]
    start = draw(max(0, len(frames) - config.clip_frames) + 1)
    given = frames[start : start + config.clip_frames, 0]
    samples = config.clip_frames * config.hop_samples
    row = {
      "units": np.pad(given, (0, config.clip_frames - len(given)), mode="edge"),
      "waveform": self._sounds.slice(which, start=start * config.hop_samples, size=samples),
      **_runs(said, start=start, end=start + len(given), config=config),
    }
    return row if self._speakers is None else {**row, "speaker": np.array(self._speakers[which], np.int32)}


def _runs(said: Spoken, *, start: int, end: int, config: UnitClips) -> Row:
  """Returns the runs that sound between two frames and those around them."""
  first, last = np.searchsorted(np.cumsum(said.counts), [start, end - 1], side="right")
  begin, stop = max(0, first - config.units_around), min(last + 1 + config.units_around, len(said.units))
  inside = np.arange(begin, stop)
  size = config.clip_frames + 2 * config.units_around
  return {
    "reduced": _padded(said.units[begin:stop], size),
    "counts": _padded(said.counts[begin:stop], size),
    "counted": _padded(((inside >= first) & (inside <= last)).astype(np.float32), size),
  }


def _padded(row: np.ndarray, size: int) -> np.ndarray:
  return np.pad(row, (0, size - len(row)))


def _speaker(turn: Turn, config: UnitClips) -> int:
  if config.speakers == "voices":
    return config.voices.index(turn.voice)
  if not turn.style:
    raise UserError(
      f"turn {turn.text!r} has no style",
      where=", ".join(map(str, config.corpus)),
      rule="where styles are the speakers, every turn of these voices states its style",
      remedy="set speakers='voices', or label the corpus",
    )
  return ALL_STYLES.index(Style.parse(turn.style))
