"""Batches of single utterances with their phones and styles, for the speech tokenizer and the style encoder.

Utterances are sorted into a few lengths, so that little is padding and the step compiles once for each length. Batch i
is a function of the seed and i alone: an epoch deals every bucket's utterances, newly shuffled, into whole batches
(the few left over wait for another epoch) and shuffles the batches; so a run resumes exactly from one number.

If asked, the last row of every batch is a recording of another split, to be judged and not learned.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np

from omni_jax.batches.dealing import deal
from omni_jax.batches.sounds import Sounds, sounding_turns
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import SAMPLE_RATE
from omni_jax.prepare.schema import Turn

NO_STYLE = (-1, -1, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
  """Utterances of up to `seconds`, `rows` to a batch."""

  seconds: float
  rows: int

  @property
  def samples(self) -> int:
    """The length of a row."""
    return round(self.seconds * SAMPLE_RATE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UtteranceBatches:
  """Where the utterances are and how they are dealt.

  Attributes:
    sets: folders of record sets; every turn with sound is an utterance.
    split: of each set.
    phones: the list of phone symbols (`phones.json`); the id of a phone is its place.
    num_phones: phones the model can tell; the list is no longer.
    max_phones: of one utterance.
    buckets: in rising order of length.
    seed: of the shuffling.
    held_out: the split of the first set that the last row of each batch is drawn from; empty: all rows are learned.
  """

  sets: tuple[Path, ...]
  split: str
  phones: Path
  num_phones: int
  max_phones: int
  buckets: tuple[Bucket, ...]
  seed: int
  held_out: str = added("")

  def __post_init__(self):
    if self.held_out and min(bucket.rows for bucket in self.buckets) < 2:
      raise UserError(
        f"a batch of one row, held_out {self.held_out!r}",
        where="UtteranceBatches",
        rule="one row is held out, and at least one is learned",
        remedy="raise the rows of the bucket, or hold nothing out",
      )

  def open(self) -> grain.IterDataset:
    """Returns endless batches of rows that are zero past their end.

    `waveform` float32 [B, A], `samples` int32 [B], `phones` int32 [B, N], `num_phones` int32 [B], and `style` int32
    [B, 3], the places of gender, emotion and pitch, -1 where the record states none. With `held_out` also `learned`
    bool [B], false for the last row.

    Raises:
      UserError: an utterance, its phones or the list of phones is longer than stated, a symbol is not in the list, or
        no held-out recording is as short as a bucket.
    """
    return deal(_BatchSource(self))


class Utterances:
  """Every turn with sound of one split, by index; as much as fits stays decoded, so that it is decoded once."""

  def __init__(self, sets: Sequence[Path], split: str):
    found = sounding_turns(sets, split)
    for one in found:
      if one.length.sample_rate != SAMPLE_RATE:
        raise UserError(
          f"sound at {one.length.sample_rate} Hz",
          where=one.name,
          rule=f"records hold sound at {SAMPLE_RATE} Hz",
          remedy="make the set again, or bring its sound to this rate",
        )
    self.turns = [one.turn for one in found]
    self.samples = np.array([one.length.samples for one in found])
    self._sounds = Sounds(found)

  def __len__(self) -> int:
    return len(self.turns)

  def __getitem__(self, index: int) -> np.ndarray:
    """Returns the waveform, float32 [A]."""
    return self._sounds.whole(index)

  def fill(self, row: np.ndarray, index: int) -> None:
    """Writes a waveform to the beginning of `row`, float32 [A], which is no shorter."""
    self._sounds.fill(row, index)


def load_phones(path: Path, *, limit: int) -> dict[str, int]:
  """Returns symbol -> id from the list in `path`.

  Raises:
    UserError: no such file, not a list of different symbols, or more than `limit`.
  """
  try:
    symbols = json.loads(Path(path).read_text())
  except (OSError, ValueError) as error:
    raise UserError(
      f"cannot read ({error})", where=path, rule="a JSON list of phone symbols", remedy="run `omni corpus` first"
    ) from error
  if len(set(symbols)) != len(symbols) or not 0 < len(symbols) <= limit:
    raise UserError(
      f"{len(symbols)} symbols, {len(set(symbols))} of them different",
      where=path,
      rule=f"1 to {limit} different symbols",
      remedy="raise num_phones in the config of the tokenizer and of its batches, or make the corpus again",
    )
  return {symbol: index for index, symbol in enumerate(symbols)}


def phone_ids(turn: Turn, table: dict[str, int]) -> list[int]:
  """Returns the ids of the phones of a turn.

  Raises:
    UserError: a symbol that is not in the table.
  """
  symbols = turn.phones.split()
  unknown = sorted(set(symbols) - set(table))
  if unknown:
    raise UserError(
      f"unknown phones {' '.join(unknown)}",
      where=f"turn {turn.text!r}",
      rule="every phone is in phones.json",
      remedy="make the corpus again: its records and its list of phones do not belong together",
    )
  return [table[symbol] for symbol in symbols]


class _Labels(NamedTuple):
  phones: np.ndarray
  num_phones: np.ndarray
  style: np.ndarray


class Buckets:
  """Utterances dealt by their length: batch i is a bucket and which utterances are in it, for any i."""

  def __init__(
    self,
    samples: np.ndarray,
    buckets: tuple[Bucket, ...],
    *,
    sample_rate: int = SAMPLE_RATE,
    seed: int,
    where: str,
    spare: int = 0,
  ):
    """Sorts utterances into buckets.

    Args:
      samples: length of each utterance.
      buckets: in rising order of length.
      sample_rate: of the utterances, Hz.
      seed: of the shuffling.
      where: the utterances come from, for messages.
      spare: rows of a batch that are left to others.

    Raises:
      UserError: an utterance is longer than the longest bucket.
    """
    lengths = np.array([round(bucket.seconds * sample_rate) for bucket in buckets])
    assert (np.diff(lengths) > 0).all(), f"buckets {buckets} must rise in length"
    if samples.max() > lengths[-1]:
      raise UserError(
        f"an utterance of {samples.max() / sample_rate:.2f} seconds",
        where=where,
        rule=f"the longest bucket holds {buckets[-1].seconds} seconds",
        remedy="raise the seconds of the last bucket in the config",
      )
    self._buckets, self._seed, self._spare = buckets, seed, spare
    place = np.searchsorted(lengths, samples)
    self._members = [np.flatnonzero(place == index) for index in range(len(lengths))]
    self._num_batches = sum(self._batches_of(index) for index in range(len(lengths)))
    self._dealt: tuple[int, list[tuple[Bucket, np.ndarray]]] | None = None  # the last epoch, and its batches

  def __getitem__(self, index: int) -> tuple[Bucket, np.ndarray]:
    epoch, place = divmod(index, self._num_batches)
    dealt = self._dealt
    if dealt is None or dealt[0] != epoch:  # all batches of an epoch of a large corpus take long to deal
      dealt = self._dealt = epoch, self._deal(epoch)
    return dealt[1][place]

  def _batches_of(self, index: int) -> int:
    """A bucket too small for one batch still gives one, some of its utterances twice."""
    size = len(self._members[index])
    return max(size // (self._buckets[index].rows - self._spare), min(size, 1))

  def _deal(self, epoch: int) -> list[tuple[Bucket, np.ndarray]]:
    generator = np.random.default_rng((self._seed, epoch))
    dealt = []
    for index, bucket in enumerate(self._buckets):
      rows = bucket.rows - self._spare
      members = np.resize(generator.permutation(self._members[index]), self._batches_of(index) * rows)
      dealt += [(bucket, members[start : start + rows]) for start in range(0, members.size, rows)]
    return [dealt[place] for place in generator.permutation(len(dealt))]


class _BatchSource:
  """Batch i, for any i; `len` is only an upper bound that no run reaches."""

  def __init__(self, config: UtteranceBatches):
    self._utterances = Utterances(config.sets, config.split)
    self._labels = _labels(self._utterances.turns, config)
    self._held_out = _HeldOut(config) if config.held_out else None
    where = ", ".join(map(str, config.sets))
    spare = 0 if self._held_out is None else 1
    self._buckets = Buckets(self._utterances.samples, config.buckets, seed=config.seed, where=where, spare=spare)

  def __len__(self) -> int:
    return 2**31 - 1

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    bucket, members = self._buckets[int(index)]
    waveform = np.zeros((bucket.rows, bucket.samples), np.float32)
    for row, member in zip(waveform, members, strict=False):  # the last row may be held out
      self._utterances.fill(row, int(member))
    batch = {
      "waveform": waveform,
      "samples": self._utterances.samples[members].astype(np.int32),
      **{name: value[members] for name, value in self._labels._asdict().items()},
    }
    return batch if self._held_out is None else self._held_out.add(batch, index=int(index))


class _HeldOut:
  """Recordings of another split, one for each batch."""

  def __init__(self, config: UtteranceBatches):
    self._seed = config.seed
    self._utterances = Utterances(config.sets[:1], config.held_out)
    self._labels = _labels(self._utterances.turns, config)
    shortest = int(self._utterances.samples.min())
    if shortest > config.buckets[0].samples:
      raise UserError(
        f"the shortest recording has {shortest / SAMPLE_RATE:.2f} seconds",
        where=f"{config.sets[0]}, split {config.held_out}",
        rule=f"one at least fits the shortest bucket, {config.buckets[0].seconds} seconds",
        remedy="raise the seconds of the first bucket, or hold nothing out",
      )

  def add(self, batch: dict[str, np.ndarray], *, index: int) -> dict[str, np.ndarray]:
    """Returns `batch`, whose last row is still free, with one recording that fits there."""
    waveform = batch["waveform"]
    fitting = np.flatnonzero(self._utterances.samples <= waveform.shape[1])
    chosen = np.random.default_rng((self._seed, 1, index)).choice(fitting, 1)
    self._utterances.fill(waveform[-1], int(chosen[0]))
    own = {"samples": self._utterances.samples[chosen].astype(np.int32)}
    own |= {name: value[chosen] for name, value in self._labels._asdict().items()}
    joined = {name: np.concatenate([batch[name], value]) for name, value in own.items()}
    return {"waveform": waveform, **joined, "learned": np.arange(len(waveform)) < len(waveform) - 1}


def _labels(turns: list[Turn], config: UtteranceBatches) -> _Labels:
  table = load_phones(config.phones, limit=config.num_phones)
  phones = np.zeros((len(turns), config.max_phones), np.int32)
  num_phones = np.zeros(len(turns), np.int32)
  for row, turn in enumerate(turns):
    ids = phone_ids(turn, table)
    if len(ids) > config.max_phones:
      raise UserError(
        f"{len(ids)} phones",
        where=f"turn {turn.text!r}",
        rule=f"an utterance has at most {config.max_phones} phones",
        remedy="raise max_phones in the config",
      )
    phones[row, : len(ids)], num_phones[row] = ids, len(ids)
  style = [Style.parse(turn.style).indices if turn.style else NO_STYLE for turn in turns]
  return _Labels(phones, num_phones, np.array(style, np.int32))
