"""Clips of single voices for the vocoder: units of the whole neighbourhood, sound and F0 of a stretch in the middle.

    units       |-- behind --|---- clip ----|-- ahead --|     reduced
    frames              |-margin-|-- clip --|-margin-|        F0 (margins only fill the network's context)
    samples                      |-- clip --|

The sound is in the corpus, the units in its encoded twin, record by record, and where `omni encode` was asked for them
how long each lasts, to 10 ms; elsewhere a unit lasts 40 ms for each repetition. Batch i is a function of the seed and i
alone, so a run resumes exactly from one number.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import decode_audio, to_pcm
from omni_jax.prepare.pitch import track_f0
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Turn
from omni_jax.tokens.units import reduce_units

HOP_SAMPLES = 160
FRAMES_PER_UNIT = 4
_UNKNOWN_HZ = 150.0  # F0 of a recording without a voiced frame
_NEVER = 1 << 40  # batches; only an upper bound


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocoderClips:
  """Where the utterances are and how they are cut.

  Attributes:
    corpus: folders of record sets with sound.
    units: for each of them the folder of its encoded twin, with units.
    split: of each set.
    voices: only turns of these voices are used (`engine:name`).
    rows: clips in a batch.
    clip_frames: frames of 10 ms that sound.
    margin_frames: frames before and after, the network's context.
    units_behind: reduced units that are given before that of the first frame.
    units_ahead: after that of the last.
    seed: of the dealing.
  """

  corpus: tuple[Path, ...]
  units: tuple[Path, ...]
  split: str
  voices: tuple[str, ...]
  rows: int
  clip_frames: int
  margin_frames: int
  units_behind: int
  units_ahead: int
  seed: int

  def open(self) -> grain.IterDataset:
    """Returns endless batches (T is the clip with its margins).

    units, counts (frames, 0 is padding): int32 [B, U]; style: int32 [B, 3]; first: int32 [B], number of the first
    frame, counted from the first unit given; f0_hz, voiced: float32 [B, T]; waveform: float32 [B, clip samples].

    Raises:
      UserError: no utterance of these voices, or a set and its twin differ.
    """
    source = _BatchSource(self)
    return grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))


class Spoken(NamedTuple):
  """Reduced units, and the frames that each lasts."""

  units: np.ndarray
  counts: np.ndarray


class _Sound:
  """One utterance: sound as 16-bit samples, F0 at each frame bridged over unvoiced ones, voicing."""

  def __init__(self, turn: Turn):
    waveform = decode_audio(turn.audio)
    f0_hz, voiced = track_f0(waveform, hop_samples=HOP_SAMPLES)
    self.pcm, self.voiced = to_pcm(waveform), voiced
    self.f0_hz = bridge(f0_hz, voiced)


def bridge(f0_hz: np.ndarray, voiced: np.ndarray) -> np.ndarray:
  """Returns F0 [T] with straight lines (in octaves) across unvoiced frames, held at the ends."""
  if not voiced.any():
    return np.full(len(f0_hz), _UNKNOWN_HZ, np.float32)
  places = np.flatnonzero(voiced)
  return np.exp2(np.interp(np.arange(len(f0_hz)), places, np.log2(f0_hz[places]))).astype(np.float32)


def spoken_turns(config: VocoderClips) -> list[tuple[Turn, Spoken]]:
  """Returns every turn of the wanted voices with its units.

  Raises:
    UserError: none is there, or a set and its encoded twin hold different records.
  """
  found = []
  for corpus, units in zip(config.corpus, config.units, strict=True):
    sounds, codes = open_set(corpus, config.split), open_set(units, config.split)
    for index in range(max(len(sounds), len(codes))):
      ids = [source[index].id if index < len(source) else None for source in (sounds, codes)]
      if ids[0] != ids[1]:
        raise UserError(
          f"record {index} is {ids[0]!r} in the corpus and {ids[1]!r} in the units",
          where=units,
          rule="the units are those of this corpus, in the same order",
          remedy="run `omni encode` again",
        )
      pairs = zip(sounds[index].turns, codes[index].turns, strict=True)
      found += [(turn, spoken(code)) for turn, code in pairs if turn.audio and turn.voice in config.voices]
  if not found:
    raise UserError(
      "no utterance to train on",
      where=", ".join(map(str, config.corpus)),
      rule=f"some turns with sound have the voices {', '.join(config.voices)}",
      remedy="make the corpus with one of these voices, or name other voices in the config",
    )
  return found


def spoken(turn: Turn) -> Spoken:
  """Returns the units of a turn with their durations: those found in encoding, or 40 ms for each repetition.

  Raises:
    UserError: durations are not one for each reduced unit, or do not add up to the length of the raw units.
  """
  units, runs = reduce_units(turn.units)
  frames = turn.unit_frames
  if len(frames) and (len(frames) != len(units) or frames.sum() != runs.sum() * FRAMES_PER_UNIT):
    raise UserError(
      f"{len(frames)} durations, {frames.sum()} frames in all, for {len(units)} reduced units of {runs.sum()} raw ones",
      where=f"turn {turn.text!r}, unit_frames",
      rule=f"one duration for each reduced unit, {FRAMES_PER_UNIT} frames in all for each raw one",
      remedy="delete the folder `units` and run `omni encode` again",
    )
  return Spoken(units, frames if len(frames) else runs * FRAMES_PER_UNIT)


class _BatchSource:
  """Batch i, for any i."""

  def __init__(self, config: VocoderClips):
    self._config = config
    self._turns = spoken_turns(config)
    self._sounds: dict[int, _Sound] = {}

  def __len__(self) -> int:
    return _NEVER

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    rows = [self._clip(index * self._config.rows + row) for row in range(self._config.rows)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _clip(self, place: int) -> dict[str, np.ndarray]:
    config, (epoch, place) = self._config, divmod(place, len(self._turns))
    order = np.random.default_rng((config.seed, epoch)).permutation(len(self._turns))
    which = int(order[place])
    turn, said = self._turns[which]
    if which not in self._sounds:
      self._sounds[which] = _Sound(turn)
    spare = max(0, int(said.counts.sum()) - config.clip_frames)
    start = int(np.random.default_rng((config.seed, epoch, place)).integers(spare + 1))
    return cut(self._sounds[which], said, Style.parse(turn.style), start=start, config=config)


def cut(sound: _Sound, said: Spoken, style: Style, *, start: int, config: VocoderClips) -> dict[str, np.ndarray]:
  """Returns the row of a batch whose clip begins at frame `start` of the utterance."""
  first, end = start - config.margin_frames, start + config.clip_frames
  ends = np.cumsum(said.counts)
  heard = np.searchsorted(ends, [max(first, 0), min(end + config.margin_frames, ends[-1]) - 1], side="right")
  # A unit begins at most two frames sooner or later than its 40 ms, so this many at most are heard.
  size = (config.clip_frames + 2 * config.margin_frames) // FRAMES_PER_UNIT + 3
  size += config.units_behind + config.units_ahead
  given = slice(max(0, heard[0] - config.units_behind), min(heard[1] + 1 + config.units_ahead, len(ends)))
  frames = np.arange(first, end + config.margin_frames)
  inside = (frames >= 0) & (frames < len(sound.f0_hz))
  places = np.clip(frames, 0, len(sound.f0_hz) - 1)
  pcm = sound.pcm[start * HOP_SAMPLES : end * HOP_SAMPLES].astype(np.float32) / 32767.0
  return {
    "units": _pad(said.units[given], size),
    "counts": _pad(said.counts[given], size),
    "style": np.array(style.indices, np.int32),
    "first": np.array(first - said.counts[: given.start].sum(), np.int32),
    "f0_hz": sound.f0_hz[places],
    "voiced": (sound.voiced[places] & inside).astype(np.float32),
    "waveform": _pad(pcm, config.clip_frames * HOP_SAMPLES),
  }


def _pad(row: np.ndarray, size: int) -> np.ndarray:
  return np.pad(row, (0, size - len(row)))
