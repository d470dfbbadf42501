"""One sample: R token rows by T columns, each entry given or learned.

EMOVA and SpeechGPT have one row; Mini-Omni has one for each code of a frame and one for text (`tokens.delays`).

A grid is built by joining pieces that say themselves whether they are learned, so that a loss mask is right by
construction instead of being found again in finished text:

    join(given([user]), given(question), given([assistant]), learned(answer), learned([end]))

    tokens   user what is this assistant a cat end
    learned   .    .    .  .      .      x  x   x

Several questions about one image share it: the trunk is read once, and each branch sees the trunk and itself, as if it
stood there alone (Molmo, arXiv 2409.17146, section 3).

    tokens     user image  what is this assistant a cat end  what color is it assistant black end
    branches     0    0     1    1   1      1     1  1   1     2    2    2  2     2       2    2
    positions    0    1     2    3   4      5     6  7   8     2    3    4  5     6       7    8
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
  """Tokens and which of them the model learns to write."""

  tokens: np.ndarray  # int32 [R, T]
  learned: np.ndarray  # bool [R, T]
  branches: np.ndarray  # int32 [T], 0 for the trunk; a column sees the trunk and its own branch

  def __post_init__(self):
    assert self.tokens.ndim == 2 and self.tokens.shape == self.learned.shape, "a grid is [rows, columns], twice"
    assert self.branches.shape == self.tokens.shape[1:], "every column has a branch"

  def __len__(self) -> int:
    """Number of columns."""
    return self.tokens.shape[1]

  @property
  def row(self) -> np.ndarray:
    """The tokens of a one-row grid, int32 [T]."""
    assert self.tokens.shape[0] == 1, "this grid has more than one row"
    return self.tokens[0]

  @property
  def positions(self) -> np.ndarray:
    """The position of each column, int32 [T]: every branch goes on where the trunk, which stands first, ends."""
    starts = np.flatnonzero(np.diff(self.branches, prepend=self.branches[:1]))
    trunk = int(starts[0]) if starts.size else len(self)
    columns = np.arange(len(self), dtype=np.int32)
    first = np.zeros(len(self), np.int32)
    first[starts] = starts - trunk
    return columns - np.maximum.accumulate(first)


def given(ids: Sequence[int] | np.ndarray) -> Grid:
  """Returns ids that the model reads: one row [T], or several [R, T]."""
  return _piece(ids, learned=False)


def learned(ids: Sequence[int] | np.ndarray, *, where: np.ndarray | None = None) -> Grid:
  """Returns ids that the model learns to write, one row [T] or several [R, T]; of several only those `where` is true.

  Args:
    ids: of the columns.
    where: bool of the shape of the ids; everything by default.
  """
  piece = _piece(ids, learned=True)
  return piece if where is None else Grid(piece.tokens, np.reshape(where, piece.tokens.shape), piece.branches)


def join(*grids: Grid) -> Grid:
  """Returns the grids one after another; all have the same rows."""
  return Grid(
    np.concatenate([grid.tokens for grid in grids], axis=1),
    np.concatenate([grid.learned for grid in grids], axis=1),
    np.concatenate([grid.branches for grid in grids]),
  )


def branch_off(trunk: Grid, branches: Sequence[Grid]) -> Grid:
  """Returns several continuations of one beginning, which do not see each other, as one grid."""
  numbered = [
    dataclasses.replace(branch, branches=np.full(len(branch), number, np.int32))
    for number, branch in enumerate(branches, 1)
  ]
  return join(trunk, *numbered)


def truncate(grid: Grid, length: int) -> Grid:
  """Returns the first `length` columns: a question or an answer may be cut in the middle.

  EMOVA cuts after images have taken their places, and learns what is left of an answer, without an end. A grid that
  has then nothing to learn has `learned` all false.
  """
  return Grid(grid.tokens[:, :length], grid.learned[:, :length], grid.branches[:length])


def _piece(ids: Sequence[int] | np.ndarray, *, learned: bool) -> Grid:
  tokens = np.atleast_2d(np.asarray(ids, np.int32))
  return Grid(tokens, np.full(tokens.shape, learned), np.zeros(tokens.shape[1], np.int32))
