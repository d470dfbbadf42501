"""One sample: R token rows by T columns, each entry given or learned.

EMOVA has one row; codec models have one per codebook.

A grid is built by joining pieces that say themselves whether they are learned, so that a loss mask is right by
construction instead of being found again in finished text:

    join(given([user]), given(question), given([assistant]), learned(answer), learned([end]))

    tokens   user what is this assistant a cat end
    learned   .    .    .  .      .      x  x   x
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
  """Tokens and which of them the model learns to write."""

  tokens: np.ndarray  # int32 [R, T]
  learned: np.ndarray  # bool [R, T]

  def __post_init__(self):
    assert self.tokens.ndim == 2 and self.tokens.shape == self.learned.shape, "a grid is [rows, columns], twice"

  def __len__(self) -> int:
    """Number of columns."""
    return self.tokens.shape[1]

  @property
  def row(self) -> np.ndarray:
    """The tokens of a one-row grid, int32 [T]."""
    assert self.tokens.shape[0] == 1, "this grid has more than one row"
    return self.tokens[0]


def given(ids: Sequence[int] | np.ndarray) -> Grid:
  """Returns a one-row grid that the model reads."""
  return _one_row(ids, learned=False)


def learned(ids: Sequence[int] | np.ndarray) -> Grid:
  """Returns a one-row grid that the model learns to write."""
  return _one_row(ids, learned=True)


def join(*grids: Grid) -> Grid:
  """Returns the grids one after another; all have the same rows."""
  return Grid(
    np.concatenate([grid.tokens for grid in grids], axis=1), np.concatenate([grid.learned for grid in grids], axis=1)
  )


def _one_row(ids: Sequence[int] | np.ndarray, *, learned: bool) -> Grid:
  tokens = np.asarray(ids, np.int32).reshape(1, -1)
  return Grid(tokens, np.full(tokens.shape, learned))
