"""How utterances become rows of endless batches: batch i is a function of the seed and i alone.

So a run resumes exactly from one number. Each epoch deals every utterance once, in a new order; where in the utterance
a row is cut is drawn by its own generator.
"""

from collections.abc import Callable
from typing import Any, Protocol

import grain
import numpy as np

_NEVER = 1 << 40  # batches; only an upper bound

Row = dict[str, np.ndarray]


class BatchSource(Protocol):
  """Batches by number."""

  def __len__(self) -> int:
    """Returns an upper bound that no run reaches."""
    ...

  def __getitem__(self, index: Any) -> Row:
    """Returns batch `index`."""
    ...


class ClipSource:
  """Batch i, for any i."""

  def __init__(self, number: int, *, rows: int, seed: int, cut: Callable[[int, Callable[[int], int]], Row]):
    """Keeps how rows are made.

    Args:
      number: of utterances.
      rows: of a batch.
      seed: of the dealing.
      cut: (which utterance, draw) -> a row; `draw(n)` is one of 0..n - 1.
    """
    self._number, self._rows, self._seed, self._cut = number, rows, seed, cut
    self._dealt: tuple[int, np.ndarray] | None = None  # the last epoch, and its order

  def __len__(self) -> int:
    return _NEVER

  def __getitem__(self, index: int) -> Row:
    rows = [self._row(index * self._rows + row) for row in range(self._rows)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _row(self, place: int) -> Row:
    epoch, place = divmod(place, self._number)
    return self._cut(
      int(self._order(epoch)[place]),
      lambda bound: int(np.random.default_rng((self._seed, epoch, place)).integers(bound)),
    )

  def _order(self, epoch: int) -> np.ndarray:
    """Returns the utterances in the order of an epoch; that of a large corpus takes long to draw."""
    dealt = self._dealt
    if dealt is None or dealt[0] != epoch:
      dealt = self._dealt = epoch, np.random.default_rng((self._seed, epoch)).permutation(self._number)
    return dealt[1]


def deal(source: BatchSource) -> grain.IterDataset:
  """Returns the endless batches of a source, made ahead by a thread."""
  return grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
