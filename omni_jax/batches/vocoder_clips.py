"""Clips of single voices for the vocoder: units of the whole neighbourhood, sound and F0 of a stretch in the middle.

    units       |-- behind --|---- clip ----|-- ahead --|     reduced
    frames              |-margin-|-- clip --|-margin-|        F0 (margins only fill the network's context)
    samples                      |-- clip --|

The sound is in the corpus, the units in its encoded twin, record by record, and where `omni encode` was asked for them
how long each lasts, to 10 ms; elsewhere a unit lasts 40 ms for each repetition.
"""

import dataclasses
from collections.abc import Callable

import grain
import numpy as np

from omni_jax.batches.dealing import ClipSource, deal
from omni_jax.batches.sounds import KEPT_SAMPLES, naming
from omni_jax.batches.spoken import FRAMES_PER_UNIT, Spoken, SpokenSets, spoken_turns
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import decode_audio, from_pcm, to_pcm
from omni_jax.prepare.pitch import track_f0

HOP_SAMPLES = 160
_UNKNOWN_HZ = 150.0  # F0 of a recording without a voiced frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocoderClips(SpokenSets):
  """Where the utterances are and how they are cut.

  Attributes:
    rows: clips in a batch.
    clip_frames: frames of 10 ms that sound.
    margin_frames: frames before and after, the network's context.
    units_behind: reduced units that are given before that of the first frame.
    units_ahead: after that of the last.
    seed: of the dealing.
  """

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
    clips = _Clips(self)
    return deal(ClipSource(len(clips.turns), rows=self.rows, seed=self.seed, cut=clips.cut))


class _Sound:
  """One utterance: sound as 16-bit samples, F0 at each frame bridged over unvoiced ones, voicing."""

  def __init__(self, audio: bytes):
    waveform = decode_audio(audio)
    f0_hz, voiced = track_f0(waveform, hop_samples=HOP_SAMPLES)
    self.pcm, self.voiced = to_pcm(waveform), voiced
    self.f0_hz = bridge(f0_hz, voiced)


def bridge(f0_hz: np.ndarray, voiced: np.ndarray) -> np.ndarray:
  """Returns F0 [T] with straight lines (in octaves) across unvoiced frames, held at the ends."""
  if not voiced.any():
    return np.full(len(f0_hz), _UNKNOWN_HZ, np.float32)
  places = np.flatnonzero(voiced)
  return np.exp2(np.interp(np.arange(len(f0_hz)), places, np.log2(f0_hz[places]))).astype(np.float32)


class _Clips:
  """Utterances and how a row is cut from one."""

  def __init__(self, config: VocoderClips):
    self._config = config
    self.turns = spoken_turns(config)
    self._sounds: dict[int, _Sound] = {}
    self._room = KEPT_SAMPLES

  def cut(self, which: int, draw: Callable[[int], int]) -> dict[str, np.ndarray]:
    """Returns a row."""
    one, said = self.turns[which]
    sound = self._sound(which)
    spare = max(0, int(said.counts.sum()) - self._config.clip_frames)
    style = Style.parse(one.turn.style)
    return cut(sound, said, style, start=draw(spare + 1), config=self._config)

  def _sound(self, which: int) -> _Sound:
    """Returns an utterance, kept if there is room: its F0 takes longest."""
    sound = self._sounds.get(which)
    if sound is None:
      one, _ = self.turns[which]
      with naming(one.name):
        sound = _Sound(one.audio())
      if sound.pcm.size <= self._room:
        self._sounds[which], self._room = sound, self._room - sound.pcm.size
    return sound


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
  return {
    "units": _pad(said.units[given], size),
    "counts": _pad(said.counts[given], size),
    "style": np.array(style.indices, np.int32),
    "first": np.array(first - said.counts[: given.start].sum(), np.int32),
    "f0_hz": sound.f0_hz[places],
    "voiced": (sound.voiced[places] & inside).astype(np.float32),
    "waveform": _pad(from_pcm(sound.pcm[start * HOP_SAMPLES : end * HOP_SAMPLES]), config.clip_frames * HOP_SAMPLES),
  }


def _pad(row: np.ndarray, size: int) -> np.ndarray:
  return np.pad(row, (0, size - len(row)))
