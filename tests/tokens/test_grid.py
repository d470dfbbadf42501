import numpy as np

from omni_jax.tokens.grid import given, join, learned


def test_joined_pieces_keep_what_is_learned():
  grid = join(given([1, 2]), learned([3]), given([]), learned([4, 5]))
  assert grid.row.tolist() == [1, 2, 3, 4, 5]
  assert grid.learned[0].tolist() == [False, False, True, True, True]
  assert len(grid) == 5 and grid.tokens.shape == (1, 5) and grid.tokens.dtype == np.int32
