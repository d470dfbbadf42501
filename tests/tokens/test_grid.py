import numpy as np

from omni_jax.tokens.grid import branch_off, given, join, learned, truncate


def test_joined_pieces_keep_what_is_learned():
  grid = join(given([1, 2]), learned([3]), given([]), learned([4, 5]))
  assert grid.row.tolist() == [1, 2, 3, 4, 5]
  assert grid.learned[0].tolist() == [False, False, True, True, True]
  assert len(grid) == 5 and grid.tokens.shape == (1, 5) and grid.tokens.dtype == np.int32


def test_branches_go_on_where_the_trunk_ends():
  grid = branch_off(given([7, 8]), [join(given([1]), learned([2, 3])), learned([4])])
  assert grid.row.tolist() == [7, 8, 1, 2, 3, 4]
  assert grid.branches.tolist() == [0, 0, 1, 1, 1, 2]
  assert grid.positions.tolist() == [0, 1, 2, 3, 4, 2]
  assert join(given([1, 2]), learned([3])).positions.tolist() == [0, 1, 2]


def test_a_long_grid_is_cut_at_its_end():
  grid = branch_off(given([7, 8]), [join(given([1]), learned([2, 3])), learned([4])])
  cut = truncate(grid, 4)
  assert cut.row.tolist() == [7, 8, 1, 2] and cut.learned[0].tolist() == [False, False, False, True]
  assert cut.positions.tolist() == grid.positions.tolist()[:4]
  assert not truncate(grid, 3).learned.any()
  assert truncate(grid, 99).row.tolist() == grid.row.tolist()
