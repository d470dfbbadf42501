"""How utterances become rows of endless batches: batch i is a function of the seed and i alone.

So a run resumes exactly from one number. Each epoch deals every utterance once, in a new order; where in the utterance
a row is cut is drawn by its own generator.
"""

from collections.abc import Callable

import grain
import numpy as np

_NEVER = 1 << 40  # batches; only an upper bound

Row = dict[str, np.ndarray]


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

  def __len__(self) -> int:
    return _NEVER

  def __getitem__(self, index: int) -> Row:
    rows = [self._row(index * self._rows + row) for row in range(self._rows)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _row(self, place: int) -> Row:
    epoch, place = divmod(place, self._number)
    order = np.random.default_rng((self._seed, epoch)).permutation(self._number)
    return self._cut(
      int(order[place]), lambda bound: int(np.random.default_rng((self._seed, epoch, place)).integers(bound))
    )


def deal(source: ClipSource) -> grain.IterDataset:
  """Returns the endless batches of a source, made ahead by a thread."""
  return grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
