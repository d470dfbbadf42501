"""The sound of a set's turns by index: read from its record when it is asked for, kept decoded as far as there is room.

    sounds-train.jsonl      beside the shards: which turns have sound, what is known of them, and how long they are

A set is read once to find its turns; that list is kept beside it, so that opening it again takes no reading. Its first
line says which shards it is of, by their checksums, and what the rest hashes to: a list of other shards, or one that is
not as it was written, is made again.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.audio import SAMPLE_RATE, SoundLength, decode_audio, decode_pcm, from_pcm, sound_length, to_pcm
from omni_jax.prepare.reader import ExampleSource, open_set
from omni_jax.prepare.schema import Turn
from omni_jax.prepare.writer import read_checksums

_VERSION = 2  # of the list
KEPT_SAMPLES = 1 << 29  # of decoded sound in memory, 1 GiB; what comes later is decoded each time
_TEXTS = ("role", "text", "style", "heard", "voice", "phones")  # of a turn, kept in the list


class SoundingTurn(NamedTuple):
  """A turn with sound: what is known of it, and where its sound is."""

  turn: Turn  # without its sound and its units
  length: SoundLength
  records: ExampleSource
  record: int
  place: int  # in its record

  @property
  def name(self) -> str:
    """Where it is, for messages."""
    return _name(self.records, self.record, self.place)

  def audio(self) -> bytes:
    """Returns the sound file, read now."""
    return self.records[self.record].turns[self.place].audio


def sounding(turn: Turn, *, records: ExampleSource, record: int, place: int) -> SoundingTurn:
  """Returns turn `place` of a record, which has sound.

  Raises:
    UserError: its sound is no sound file.
  """
  known = Turn(**{name: getattr(turn, name) for name in _TEXTS})
  with naming(_name(records, record, place)):
    return SoundingTurn(known, sound_length(turn.audio), records, record, place)


def sounding_turns(sets: Sequence[Path], split: str, *, voices: Sequence[str] = ()) -> list[SoundingTurn]:
  """Returns every turn with sound of a split of some sets, of these voices if any are named.

  Raises:
    UserError: there is none.
  """
  turns = [one for folder in sets for one in _listed(open_set(folder, split))]
  turns = [one for one in turns if not voices or one.turn.voice in voices]
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

  def __init__(self, turns: Sequence[SoundingTurn], *, sample_rate: int = SAMPLE_RATE, peak: float = 0.0):
    """Decodes nothing yet.

    Args:
      turns: whose sound.
      sample_rate: that it is brought to, Hz.
      peak: what the largest sample of a recording is brought to; 0 leaves recordings as they are.
    """
    self._turns, self._sample_rate, self._peak = turns, sample_rate, peak
    self._kept: dict[int, np.ndarray] = {}
    self._room = KEPT_SAMPLES

  def length(self, which: int) -> int:
    """Returns the number of samples."""
    stated = self._turns[which].length
    return stated.samples if stated.sample_rate == self._sample_rate else len(self._pcm(which))

  def slice(self, which: int, *, start: int, size: int) -> np.ndarray:
    """Returns float32 [size] from sample `start` on, zero past the end."""
    row = np.zeros(size, np.float32)
    self.fill(row, which, start=start)
    return row

  def fill(self, row: np.ndarray, which: int, *, start: int = 0) -> None:
    """Writes samples from `start` on to the beginning of `row`, float32 [A], as many as there are and it takes."""
    pcm = self._pcm(which)[start : start + len(row)]
    from_pcm(pcm, out=row[: len(pcm)])

  def whole(self, which: int) -> np.ndarray:
    """Returns all samples, float32 [A]."""
    return from_pcm(self._pcm(which))

  def _pcm(self, which: int) -> np.ndarray:
    pcm = self._kept.get(which)
    if pcm is None:
      pcm = self._decoded(self._turns[which])
      if len(pcm) <= self._room:
        self._kept[which], self._room = pcm, self._room - len(pcm)
    return pcm

  def _decoded(self, one: SoundingTurn) -> np.ndarray:
    with naming(one.name):
      pcm = self._brought(one.audio())
    if one.length.sample_rate == self._sample_rate and len(pcm) != one.length.samples:
      raise UserError(
        f"{len(pcm)} samples, {one.length.samples} were listed",
        where=one.name,
        rule="sound is as long as its head says, and records are those that were listed",
        remedy=f"make the set again, or delete {_list_path(one.records)} if the set was exchanged",
      )
    return pcm

  def _brought(self, audio: bytes) -> np.ndarray:
    """Returns the samples of a sound file at the wanted rate and level."""
    if self._sample_rate == SAMPLE_RATE and not self._peak:
      return decode_pcm(audio)
    waveform = decode_audio(audio, sample_rate=self._sample_rate)
    if self._peak:
      waveform = waveform * (self._peak / max(float(np.abs(waveform).max()), 1e-4))
    return to_pcm(waveform)


def _name(records: ExampleSource, record: int, place: int) -> str:
  return f"{records.folder}, split {records.split}, record {record}, turn {place}"


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
  """Lets errors about bytes of sound say whose they are."""
  try:
    yield
  except UserError as error:
    raise UserError(error.what, where=where, rule=error.rule, remedy=error.remedy) from error


def _listed(records: ExampleSource) -> list[SoundingTurn]:
  """Returns the turns with sound of a split, from the list beside it if it is of these shards."""
  path, key = _list_path(records), _key(records)
  if key and path.is_file():
    with contextlib.suppress(ValueError, OSError):  # damaged, or just being written: it is made again
      return _read_list(path, key, records)
  found = list(_found(records))
  if key:
    rows = "".join(json.dumps(_row(one)) + "\n" for one in found)
    with contextlib.suppress(UserError):  # a set that others own is read each time
      write_whole(path, f"{_head(key, rows)}\n{rows}")
  return found


def _list_path(records: ExampleSource) -> Path:
  return records.folder / f"sounds-{records.split}.jsonl"


def _head(key: list, rows: str) -> str:
  return json.dumps([*key, hashlib.sha256(rows.encode()).hexdigest()])


def _found(records: ExampleSource) -> Iterator[SoundingTurn]:
  for record, example in enumerate(records):
    for place, turn in enumerate(example.turns):
      if turn.audio:
        yield sounding(turn, records=records, record=record, place=place)


def _read_list(path: Path, key: list, records: ExampleSource) -> list[SoundingTurn]:
  head, _, rows = path.read_text(encoding="utf-8").partition("\n")
  if head != _head(key, rows):
    raise ValueError("of other shards, or not as it was written")
  return [
    SoundingTurn(Turn(**dict(zip(_TEXTS, texts, strict=True))), SoundLength(*length), records, record, place)
    for record, place, length, texts in map(json.loads, rows.splitlines())
  ]


def _row(one: SoundingTurn) -> list:
  return [one.record, one.place, one.length, [getattr(one.turn, name) for name in _TEXTS]]


def _key(records: ExampleSource) -> list:
  """Returns what no other shards have, or nothing for a set without checksums."""
  known = read_checksums(records.folder)
  sums = [known.get(path.name) for path in records.shards]
  return [_VERSION, sums] if all(sums) else []
