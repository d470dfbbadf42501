"""What units keep and what they let slip, in NumPy: how a codebook is used, how far two strings of units are apart.

The comparison is EMOVA's (arXiv 2409.18042, section 3.1): units that hold what is said and not how it is said are the
same for the same words in any style, so the distance between styles is small beside that between sentences.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.core.styles import Style

PARTS = ("gender", "emotion", "pitch")


class Agreement(NamedTuple):
  """Mean distances for each of S sentences, float64 [S], each distance from 0 (equal) to 1.

  Attributes:
    styles: between the same words in any two styles.
    sentences: between other words in the same style.
    only: part of a style -> between the same words in two styles that differ in this part only.
  """

  styles: np.ndarray
  sentences: np.ndarray
  only: dict[str, np.ndarray]


def unit_table(units: Sequence[np.ndarray]) -> dict[str, float]:
  """Returns how the codebook is used by units [U], repetitions kept, of several recordings."""
  flat = np.concatenate(units)
  shares = np.unique(flat, return_counts=True)[1] / len(flat)
  kept = sum(int(np.count_nonzero(np.diff(row, prepend=-1))) for row in units)
  return {
    "units": len(flat),
    "different units": len(shares),
    "perplexity": round(float(np.exp(-(shares * np.log(shares)).sum())), 1),
    "share kept when reduced": round(kept / len(flat), 3),
  }


def edit_distances(firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the fewest insertions, deletions and substitutions between the two of each pair, int64 [N].

  The same as `scores.edit_distance` of every pair, computed for all of them together.
  """
  assert len(firsts) == len(seconds), "pairs"
  lengths = np.array([len(row) for row in firsts])
  ends = np.array([len(row) for row in seconds])
  first, second = _padded(firsts), _padded(seconds)
  places = np.arange(second.shape[1] + 1)
  rows = np.tile(places, (len(firsts), 1))
  for place in range(first.shape[1]):
    best = rows + 1
    best[:, 1:] = np.minimum(best[:, 1:], rows[:, :-1] + (second != first[:, place, None]))
    # A chain of insertions: the least of best[i] + (j - i) over i up to j.
    best = np.minimum.accumulate(best - places, axis=1) + places
    rows = np.where((place < lengths)[:, None], best, rows)
  return rows[np.arange(len(firsts)), ends]


def distances(firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the edit distance of each pair over the longer of the two, float64 [N], 0 to 1; 0 for two empty rows."""
  longest = [max(len(first), len(second), 1) for first, second in zip(firsts, seconds, strict=True)]
  return edit_distances(firsts, seconds) / np.array(longest)


def agreement(grid: Sequence[Sequence[np.ndarray]], styles: Sequence[Style]) -> Agreement:
  """Returns how far the units of S sentences, each said in every one of `styles`, are apart.

  Args:
    grid: [S][len(styles)] reduced units, at least two sentences.
    styles: of the columns, at least two.
  """
  assert len(grid) > 1 and len(styles) > 1, "two sentences and two styles at least"
  assert all(len(row) == len(styles) for row in grid), "every sentence in every style"
  pairs = list(itertools.combinations(range(len(styles)), 2))
  by_pair = np.stack(
    [distances([row[first] for first, _ in pairs], [row[second] for _, second in pairs]) for row in grid]
  )  # [S, pairs]
  differing = [
    tuple(part for part in PARTS if getattr(styles[first], part) != getattr(styles[second], part))
    for first, second in pairs
  ]
  only = {part: [place for place, parts in enumerate(differing) if parts == (part,)] for part in PARTS}
  return Agreement(
    styles=by_pair.mean(1),
    sentences=_between_sentences(grid),
    only={part: by_pair[:, places].mean(1) for part, places in only.items() if places},
  )


def _between_sentences(grid: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
  """Returns for each sentence its mean distance to every other one in the same style."""
  pairs = list(itertools.combinations(range(len(grid)), 2))
  sums = np.zeros(len(grid))
  for column in range(len(grid[0])):
    found = distances([grid[first][column] for first, _ in pairs], [grid[second][column] for _, second in pairs])
    for (first, second), distance in zip(pairs, found, strict=True):
      sums[first] += distance
      sums[second] += distance
  return sums / (len(grid[0]) * (len(grid) - 1))


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
  padded = np.full((len(rows), max((len(row) for row in rows), default=0)), -1, np.int64)
  for place, row in enumerate(rows):
    padded[place, : len(row)] = row
  return padded
