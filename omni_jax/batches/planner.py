"""Which samples stand together in which row, decided from their lengths alone, one row after another for ever.

    sources in their shares -> records in the order of their epoch -> views and heard styles drawn -> rows filled

Samples wait in a pool in the order they were drawn. A row takes from its front as long as they fit, and then, of all
that wait, again and again the longest that still fits. So no sample waits long, the shares of the mixture hold from
row to row, and the last places of a row are filled from many lengths.

    pool   7 5 6 3 4 2 ...   a row of 16:   7 5 | 4   and the pool is   6 3 2 ...

What is planned depends on the seed and the counts only, and what has to be kept to go on is a `State` of bounded size,
so rows cost the same wherever they are.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.batches.draws import drawn, shuffled, uniform
from omni_jax.batches.shares import Phase, SourceOrder, Turn

# What is known of a planned sample.
ENTRY = np.dtype(
  [
    ("record", "<u4"),  # of the source
    ("epoch", "<u4"),  # of the source: how often all its records were drawn before
    ("tokens", "<i4"),
    ("pieces", "<i4"),  # of images, patches or tiles
    ("source", "<u2"),
    ("view", "u1"),  # of the source
    ("heard", "u1"),  # whether the style of the user's speech is told
  ]
)
POOL = 1024  # samples that wait, at least; a few hundred rows are planned ahead of the first of them at most
_VIEW, _HEARD, _ORDER, _CYCLE = range(4)  # purposes of random numbers


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stock:
  """The samples that a source can give.

  Attributes:
    tokens: int32 [record, view, 2], without and with the heard style; 0 where the record has no such sample.
    pieces: int32 [record, view].
    records: int32 [usable], the records that have a sample in some view.
    style_dropout: share of samples without the heard style.
  """

  tokens: np.ndarray
  pieces: np.ndarray
  records: np.ndarray
  style_dropout: float


class State(NamedTuple):
  """All that planning the next row depends on."""

  row: int
  turn: Turn
  drawn: np.ndarray  # int64 [source], samples drawn so far
  pool: np.ndarray  # ENTRY [waiting]


class Rows(NamedTuple):
  """Planned rows: those of row r are `entries[ends[r - 1]:ends[r]]`."""

  ends: np.ndarray  # int32 [row]
  entries: np.ndarray  # ENTRY [sample]


class Planner:
  """Plans rows of `length` tokens and `pieces` of images."""

  def __init__(
    self, stocks: Sequence[Stock], *, shares: Sequence[Phase], rows: int, length: int, pieces: int, seed: int
  ):
    """Keeps what is planned from.

    Args:
      stocks: of the sources; every usable sample fits a row.
      shares: of the sources, by step.
      rows: of a step.
      length: tokens of a row.
      pieces: of images in a row.
      seed: of every choice.
    """
    self._stocks, self._rows, self._length, self._pieces = tuple(stocks), rows, length, pieces
    self._seed = int(drawn(seed))
    self._order = SourceOrder(shares, seed=int(drawn(self._seed, _CYCLE)))

  def begin(self) -> State:
    """Returns where planning begins."""
    return State(0, Turn(), np.zeros(len(self._stocks), np.int64), np.zeros(0, ENTRY))

  def plan(self, state: State, count: int) -> tuple[Rows, State]:
    """Returns the next `count` rows, and where to go on."""
    filled = []
    for row in range(state.row, state.row + count):
      state = self._replenished(state, step=row // self._rows)
      chosen = self._fill(state.pool)
      filled.append(state.pool[chosen])
      state = state._replace(pool=np.delete(state.pool, chosen))
    ends = np.cumsum([len(row) for row in filled]).astype(np.int32)
    return Rows(ends, np.concatenate(filled)), state._replace(row=state.row + count)

  def _replenished(self, state: State, *, step: int) -> State:
    """Returns the state with enough waiting samples that none of them could be missed."""
    while len(state.pool) < POOL or state.pool["tokens"].sum() < 2 * self._length:
      sources, turn = self._order.take(POOL // 4, turn=state.turn, step=step)
      made = np.empty(len(sources), ENTRY)
      counts = state.drawn.copy()
      for source in np.unique(sources):
        own = sources == source
        made[own] = self._draw(int(source), int(counts[source]), int(own.sum()))
        counts[source] += own.sum()
      state = state._replace(turn=turn, drawn=counts, pool=np.concatenate([state.pool, made]))
    return state

  def _fill(self, pool: np.ndarray) -> np.ndarray:
    """Returns which waiting samples make the next row."""
    tokens, pieces = pool["tokens"], pool["pieces"]
    ends = np.cumsum(tokens), np.cumsum(pieces)
    front = min(int(np.searchsorted(end, room, "right")) for end, room in zip(ends, self._room, strict=True))
    chosen = list(range(front))
    left, room = self._length - int(ends[0][front - 1]), self._pieces - int(ends[1][front - 1])
    waiting = tokens.copy()
    waiting[:front] = 0
    while left > 0:
      fitting = np.where((waiting <= left) & (pieces <= room), waiting, 0)
      best = int(fitting.argmax())  # the first of the longest
      if fitting[best] == 0:
        break
      chosen.append(best)
      waiting[best] = 0
      left, room = left - int(tokens[best]), room - int(pieces[best])
    return np.array(chosen)

  @property
  def _room(self) -> tuple[int, int]:
    return self._length, self._pieces

  def _draw(self, source: int, first: int, count: int) -> np.ndarray:
    """Returns samples number `first` and following of a source."""
    stock = self._stocks[source]
    numbers = first + np.arange(count)
    epochs, places = np.divmod(numbers, len(stock.records))
    records = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
      own = epochs == epoch
      key = drawn(self._seed, _ORDER, source, int(epoch))
      records[own] = stock.records[shuffled(places[own], size=len(stock.records), key=key)]
    heard = uniform(self._seed, _HEARD, source, epochs, records) >= stock.style_dropout
    view = self._view(stock, source=source, epochs=epochs, records=records)
    made = np.empty(count, ENTRY)
    made["record"], made["epoch"], made["source"], made["view"], made["heard"] = records, epochs, source, view, heard
    made["tokens"] = stock.tokens[records, view, heard.astype(int)]
    made["pieces"] = stock.pieces[records, view]
    return made

  def _view(self, stock: Stock, *, source: int, epochs: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Returns one of the views in which each record has a sample, all as likely."""
    usable = stock.tokens[records].any(axis=2)  # [count, view]
    choice = drawn(self._seed, _VIEW, source, epochs, records) % usable.sum(axis=1).astype(np.uint64)
    return np.argmax(np.cumsum(usable, axis=1) > choice[:, None].astype(np.int64), axis=1)
