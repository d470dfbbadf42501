"""Random numbers by name instead of by turn: the same keys give the same number on every machine and for ever.

A generator's next number depends on how often it was asked, and NumPy keeps its streams for no more than a version.
Here a number is a hash of the integers that name it (seed, purpose, epoch, index), so order and processes do not
matter. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), applied once for each key.
"""

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ROUNDS = 6


def drawn(*keys: int | np.ndarray) -> np.ndarray:
  """Returns 64 random bits for these keys, uint64, of the keys' common shape."""
  bits = np.zeros((), np.uint64)
  with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64
    for key in keys:
      bits = _mixed(bits + _STEP + np.asarray(key).astype(np.uint64))
  return bits


def uniform(*keys: int | np.ndarray) -> np.ndarray:
  """Returns a number in [0, 1) for these keys, float64."""
  return (drawn(*keys) >> np.uint64(11)) * 2.0**-53


def shuffled(places: np.ndarray, *, size: int, key: int | np.ndarray) -> np.ndarray:
  """Returns where each of `places` (0 to size - 1) lies in a random order of `size` things, int64.

  Nothing of that order is kept: a Feistel network permutes the next power of four, and what falls outside `size` is
  permuted again until it falls inside (Black and Rogaway, CT-RSA 2002).
  """
  half = np.uint64(((size - 1).bit_length() + 1) // 2)
  low = (np.uint64(1) << half) - np.uint64(1)
  values = places.astype(np.uint64)
  outside = np.ones(values.shape, bool)
  while outside.any():
    left, right = values[outside] >> half, values[outside] & low
    for number in range(_ROUNDS):
      left, right = right, left ^ (drawn(key, number, right) & low)
    values[outside] = left << half | right
    outside = values >= np.uint64(size)
  return values.astype(np.int64)


def _mixed(bits: np.ndarray) -> np.ndarray:
  bits = (bits ^ bits >> np.uint64(30)) * _FIRST
  bits = (bits ^ bits >> np.uint64(27)) * _SECOND
  return bits ^ bits >> np.uint64(31)
